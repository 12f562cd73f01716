/// A strict parser of one JSON text (RFC 8259): UTF-8 only, at most `maximumDepth` nested containers, no duplicate
/// keys, no lone surrogates, nothing after the value. Every read is checked, so no input can trap.
///
/// U+0000 is legal JSON and is accepted in strings. Whether a field may contain it is decided by the code that reads
/// the field.
package struct JSONParser {
  /// The reason why a text is not JSON, for a person, and the offset in bytes where the parser stopped.
  package struct Failure: Error, Equatable, CustomStringConvertible {
    package let reason: StaticString
    package let offset: Int

    package var description: String { "\(reason) at byte \(offset)" }

    package static func == (left: Self, right: Self) -> Bool {
      left.offset == right.offset && left.description == right.description
    }
  }

  private let bytes: UnsafeBufferPointer<UInt8>
  private var position = 0
  private var depthLeft: Int

  /// The default limit of nested arrays and objects.
  package static let defaultMaximumDepth = 16

  private init(_ bytes: UnsafeBufferPointer<UInt8>, maximumDepth: Int) {
    self.bytes = bytes
    depthLeft = maximumDepth
  }

  /// Parses a whole text. The bytes are used only during the call.
  package static func parse(
    _ bytes: UnsafeBufferPointer<UInt8>, maximumDepth: Int = defaultMaximumDepth
  ) throws(Failure) -> JSON {
    var parser = JSONParser(bytes, maximumDepth: maximumDepth)
    parser.skipBlanks()
    let value = try parser.value()
    parser.skipBlanks()
    guard parser.position == bytes.count else { throw parser.failure("text after the value") }
    return value
  }

  package static func parse(
    _ bytes: [UInt8], maximumDepth: Int = defaultMaximumDepth
  ) throws(Failure) -> JSON {
    try bytes.withUnsafeBufferPointer { (buffer) throws(Failure) in
      try parse(buffer, maximumDepth: maximumDepth)
    }
  }

  /// Estimates the memory in bytes that a text will take when it is parsed, without parsing it: small values take far
  /// more than their text. Also returns an estimate for texts that are not JSON.
  package static func memoryEstimate(of bytes: [UInt8]) -> Int {
    var sum = bytes.count
    var isInString = false
    var position = 0
    while position < bytes.count {
      switch bytes[position] {
      case UInt8(ascii: "\""):
        // A string of more than 15 bytes has a heap buffer. All strings are counted as if they had one.
        if isInString { sum += 32 }
        isInString.toggle()
      case UInt8(ascii: "\\") where isInString: position += 1
      case _ where isInString: break
      // An array or an object has a heap buffer, too.
      case UInt8(ascii: "["), UInt8(ascii: "{"): sum += 96
      // Counted twice: arrays grow by doubling, so at worst half of an array is empty.
      case UInt8(ascii: ","): sum += 2 * MemoryLayout<JSON>.stride
      case UInt8(ascii: ":"): sum += 2 * MemoryLayout<String>.stride
      default: break
      }
      position += 1
    }
    return sum
  }

  private func failure(_ reason: StaticString) -> Failure {
    Failure(reason: reason, offset: position)
  }

  /// The next byte, which is not consumed. At the end of the text 0, with which no part of JSON begins.
  private var next: UInt8 { position < bytes.count ? bytes[position] : 0 }

  private mutating func skipBlanks() {
    while position < bytes.count {
      switch bytes[position] {
      case 0x20, 0x09, 0x0A, 0x0D: position += 1
      default: return
      }
    }
  }

  private mutating func value() throws(Failure) -> JSON {
    switch next {
    case UInt8(ascii: "{"): return try object()
    case UInt8(ascii: "["): return try array()
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try literal("true", .bool(true))
    case UInt8(ascii: "f"): return try literal("false", .bool(false))
    case UInt8(ascii: "n"): return try literal("null", .null)
    case UInt8(ascii: "-"), 48...57: return try number()
    default: throw failure("expected a value")
    }
  }

  private mutating func literal(_ text: StaticString, _ value: JSON) throws(Failure) -> JSON {
    guard bytes.count - position >= text.utf8CodeUnitCount else { throw failure("unknown word") }
    for index in 0..<text.utf8CodeUnitCount where bytes[position + index] != text.utf8Start[index] {
      throw failure("unknown word")
    }
    position += text.utf8CodeUnitCount
    return value
  }

  private mutating func enter() throws(Failure) {
    guard depthLeft > 0 else { throw failure("nested too deep") }
    depthLeft -= 1
    position += 1
    skipBlanks()
  }

  private mutating func object() throws(Failure) -> JSON {
    try enter()
    defer { depthLeft += 1 }
    var object = JSONObject()
    if next == UInt8(ascii: "}") {
      position += 1
      return .object(object)
    }
    // The keys of small objects are compared one by one. For large objects, where that would be quadratic, `seen` is
    // used. Keys are compared as bytes: texts that are only canonically equivalent are different keys.
    var seen: Set<[UInt8]>?
    while true {
      guard next == UInt8(ascii: "\"") else { throw failure("expected a key") }
      let key = try string()
      if object.members.count == 16 { seen = Set(object.members.map { Array($0.key.utf8) }) }
      let isNew =
        if seen == nil {
          !object.members.contains {
            $0.key.utf8.count == key.utf8.count && $0.key.utf8.elementsEqual(key.utf8)
          }
        } else {
          seen?.insert(Array(key.utf8)).inserted == true
        }
      guard isNew else { throw failure("key given twice") }
      skipBlanks()
      guard next == UInt8(ascii: ":") else { throw failure("expected ':'") }
      position += 1
      skipBlanks()
      object.append(key, try value())
      skipBlanks()
      if next == UInt8(ascii: "}") {
        position += 1
        return .object(object)
      }
      guard next == UInt8(ascii: ",") else { throw failure("expected ',' or '}'") }
      position += 1
      skipBlanks()
    }
  }

  private mutating func array() throws(Failure) -> JSON {
    try enter()
    defer { depthLeft += 1 }
    var elements: [JSON] = []
    if next == UInt8(ascii: "]") {
      position += 1
      return .array(elements)
    }
    while true {
      elements.append(try value())
      skipBlanks()
      if next == UInt8(ascii: "]") {
        position += 1
        return .array(elements)
      }
      guard next == UInt8(ascii: ",") else { throw failure("expected ',' or ']'") }
      position += 1
      skipBlanks()
    }
  }

  private mutating func number() throws(Failure) -> JSON {
    let start = position
    if next == UInt8(ascii: "-") { position += 1 }
    if next == 48 {
      position += 1
    } else {
      guard skipDigits() else { throw failure("expected a digit") }
    }
    var isWhole = true
    if next == UInt8(ascii: ".") {
      isWhole = false
      position += 1
      guard skipDigits() else { throw failure("expected a digit") }
    }
    if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
      isWhole = false
      position += 1
      if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { position += 1 }
      guard skipDigits() else { throw failure("expected a digit") }
    }
    // An Int64 has no negative zero, so `-0` is returned as a double with its text.
    let isNegativeZero = position - start == 2 && bytes[start] == UInt8(ascii: "-")
    if isWhole, let value = integer(start..<position), value != 0 || !isNegativeZero {
      return .integer(value)
    }
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    // Double.init returns nil only for a text that is not a number. A number that is too large becomes infinity.
    guard let value = Double(text) else { throw failure("expected a number") }
    return .double(value, text: text)
  }

  private func integer(_ range: Range<Int>) -> Int64? {
    let isNegative = bytes[range.lowerBound] == UInt8(ascii: "-")
    var value: Int64 = 0
    for index in (range.lowerBound + (isNegative ? 1 : 0))..<range.upperBound {
      let (product, overflow) = value.multipliedReportingOverflow(by: 10)
      let digit = Int64(bytes[index] - 48)
      let (sum, carry) = product.addingReportingOverflow(isNegative ? -digit : digit)
      if overflow || carry { return nil }
      value = sum
    }
    return value
  }

  private mutating func skipDigits() -> Bool {
    let start = position
    while position < bytes.count, (48...57).contains(bytes[position]) { position += 1 }
    return position > start
  }

  private mutating func string() throws(Failure) -> String {
    position += 1
    let start = position
    while position < bytes.count {
      switch bytes[position] {
      case UInt8(ascii: "\""):
        let part = UnsafeBufferPointer(rebasing: bytes[start..<position])
        guard let text = String(utf8: part) else {
          throw failure("not UTF-8")
        }
        position += 1
        return text
      case UInt8(ascii: "\\"): return try escapedString(from: start)
      case 0..<0x20: throw failure("control character in a string")
      default: position += 1
      }
    }
    throw failure("string without end")
  }

  private mutating func escapedString(from start: Int) throws(Failure) -> String {
    var text = [UInt8](bytes[start..<position])
    while position < bytes.count {
      let byte = bytes[position]
      switch byte {
      case UInt8(ascii: "\""):
        position += 1
        guard let string = text.withUnsafeBufferPointer({ String(utf8: $0) }) else {
          throw failure("not UTF-8")
        }
        return string
      case UInt8(ascii: "\\"):
        position += 1
        try escape(into: &text)
      case 0..<0x20: throw failure("control character in a string")
      default:
        text.append(byte)
        position += 1
      }
    }
    throw failure("string without end")
  }

  private mutating func escape(into text: inout [UInt8]) throws(Failure) {
    let kind = next
    position += 1
    switch kind {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(kind)
    case UInt8(ascii: "b"): text.append(0x08)
    case UInt8(ascii: "f"): text.append(0x0C)
    case UInt8(ascii: "n"): text.append(0x0A)
    case UInt8(ascii: "r"): text.append(0x0D)
    case UInt8(ascii: "t"): text.append(0x09)
    case UInt8(ascii: "u"):
      let scalar = try unicodeEscape()
      text.append(contentsOf: String(Character(scalar)).utf8)
    default: throw failure("unknown escape")
    }
  }

  private mutating func unicodeEscape() throws(Failure) -> Unicode.Scalar {
    let first = try hexQuad()
    var code = UInt32(first)
    if (0xD800...0xDBFF).contains(first) {
      guard next == UInt8(ascii: "\\") else { throw failure("lone surrogate") }
      position += 1
      guard next == UInt8(ascii: "u") else { throw failure("lone surrogate") }
      position += 1
      let second = try hexQuad()
      guard (0xDC00...0xDFFF).contains(second) else { throw failure("lone surrogate") }
      code = 0x10000 + (UInt32(first) - 0xD800) << 10 + (UInt32(second) - 0xDC00)
    }
    // Unicode.Scalar is nil for a lone low surrogate.
    guard let scalar = Unicode.Scalar(code) else { throw failure("lone surrogate") }
    return scalar
  }

  private mutating func hexQuad() throws(Failure) -> UInt16 {
    var value: UInt16 = 0
    for _ in 0..<4 {
      guard let digit = hexDigit(next) else { throw failure("expected four hex digits") }
      value = value << 4 | UInt16(digit)
      position += 1
    }
    return value
  }
}
