/// A writer of JSON text into a byte array, for answers and frames.
///
/// Members are written in the order of the calls, and commas are inserted. Hot paths reuse one writer: `removeAll`
/// empties it and keeps its capacity.
///
///     var writer = JSONWriter()
///     writer.object {
///       $0.member("type", "ack")
///       $0.member("seq", entry.seq)
///     }
package struct JSONWriter {
  package private(set) var bytes: [UInt8] = []
  private var needsComma = false

  package init(capacity: Int = 0) {
    bytes.reserveCapacity(capacity)
  }

  package mutating func removeAll() {
    bytes.removeAll(keepingCapacity: true)
    needsComma = false
  }

  // MARK: Containers

  package mutating func object<Failure: Error>(
    _ body: (inout JSONWriter) throws(Failure) -> Void
  ) throws(Failure) {
    open(UInt8(ascii: "{"))
    try body(&self)
    close(UInt8(ascii: "}"))
  }

  package mutating func array<Failure: Error>(
    _ body: (inout JSONWriter) throws(Failure) -> Void
  ) throws(Failure) {
    open(UInt8(ascii: "["))
    try body(&self)
    close(UInt8(ascii: "]"))
  }

  package mutating func array<Elements: Sequence>(
    of elements: Elements, _ body: (inout JSONWriter, Elements.Element) -> Void
  ) {
    array { writer in
      for element in elements { body(&writer, element) }
    }
  }

  // For containers that are written in several steps. The caller ends each container that it began.
  package mutating func beginObject() { open(UInt8(ascii: "{")) }
  package mutating func endObject() { close(UInt8(ascii: "}")) }
  package mutating func beginArray() { open(UInt8(ascii: "[")) }
  package mutating func endArray() { close(UInt8(ascii: "]")) }

  /// A position in the text, to which `rewind` returns.
  package struct Mark {
    fileprivate let count: Int
    fileprivate let needsComma: Bool
  }

  package var mark: Mark { Mark(count: bytes.count, needsComma: needsComma) }

  /// Removes what was written since the mark.
  package mutating func rewind(to mark: Mark) {
    bytes.removeLast(bytes.count - mark.count)
    needsComma = mark.needsComma
  }

  private mutating func open(_ byte: UInt8) {
    separate()
    bytes.append(byte)
    needsComma = false
  }

  private mutating func close(_ byte: UInt8) {
    bytes.append(byte)
    needsComma = true
  }

  private mutating func separate() {
    if needsComma { bytes.append(UInt8(ascii: ",")) }
    needsComma = true
  }

  /// Writes a key. The caller then writes its value. Keys are constants of this server and need no escaping.
  package mutating func key(_ key: StaticString) {
    separate()
    bytes.append(UInt8(ascii: "\""))
    bytes.append(
      contentsOf: UnsafeBufferPointer(start: key.utf8Start, count: key.utf8CodeUnitCount))
    bytes.append(UInt8(ascii: "\""))
    bytes.append(UInt8(ascii: ":"))
    needsComma = false
  }

  // MARK: Values

  package mutating func null() { word("null") }
  package mutating func value(_ value: Bool) { word(value ? "true" : "false") }

  package mutating func value(_ value: Int64) {
    separate()
    appendDecimal(value, to: &bytes)
  }

  /// Writes null for infinity and NaN, which JSON does not have.
  package mutating func value(_ value: Double) {
    if value.isFinite { word(value.description) } else { null() }
  }

  package mutating func value(_ value: String) {
    separate()
    bytes.append(UInt8(ascii: "\""))
    var text = value
    text.withUTF8 { appendEscaped($0) }
    bytes.append(UInt8(ascii: "\""))
  }

  package mutating func value(_ value: UUID) {
    separate()
    bytes.append(UInt8(ascii: "\""))
    value.appendText(to: &bytes)
    bytes.append(UInt8(ascii: "\""))
  }

  package mutating func value<Entity>(_ value: Identifier<Entity>) { self.value(value.uuid) }

  package mutating func value(_ value: Timestamp) {
    separate()
    bytes.append(UInt8(ascii: "\""))
    value.appendText(to: &bytes)
    bytes.append(UInt8(ascii: "\""))
  }

  package mutating func value(_ value: JSON) {
    switch value {
    case .null: null()
    case .bool(let bool): self.value(bool)
    case .integer(let integer): self.value(integer)
    case .double(_, let text):
      separate()
      bytes.append(contentsOf: text.utf8)
    case .string(let string): self.value(string)
    case .array(let elements): array(of: elements) { $0.value($1) }
    case .object(let object):
      self.object { writer in
        for member in object.members {
          writer.value(member.key)
          writer.bytes.append(UInt8(ascii: ":"))
          writer.needsComma = false
          writer.value(member.value)
        }
      }
    }
  }

  // MARK: Members

  package mutating func member(_ key: StaticString, _ value: String) {
    self.key(key)
    self.value(value)
  }

  package mutating func member(_ key: StaticString, _ value: Int64) {
    self.key(key)
    self.value(value)
  }

  package mutating func member(_ key: StaticString, _ value: Bool) {
    self.key(key)
    self.value(value)
  }

  package mutating func member<Entity>(_ key: StaticString, _ value: Identifier<Entity>) {
    self.key(key)
    self.value(value.uuid)
  }

  /// Writes nil as null.
  package mutating func member<Entity>(_ key: StaticString, _ value: Identifier<Entity>?) {
    self.key(key)
    if let value { self.value(value.uuid) } else { null() }
  }

  package mutating func member(_ key: StaticString, _ value: UUID) {
    self.key(key)
    self.value(value)
  }

  package mutating func member(_ key: StaticString, _ value: Timestamp) {
    self.key(key)
    self.value(value)
  }

  package mutating func member(_ key: StaticString, _ value: JSON) {
    self.key(key)
    self.value(value)
  }

  package mutating func nullMember(_ key: StaticString) {
    self.key(key)
    null()
  }

  // MARK: Bytes

  private mutating func word(_ text: String) {
    separate()
    bytes.append(contentsOf: text.utf8)
  }

  /// Appends a text and escapes what must be escaped (RFC 8259, section 7). Runs of other characters are copied whole.
  private mutating func appendEscaped(_ text: UnsafeBufferPointer<UInt8>) {
    var start = 0
    for index in 0..<text.count {
      let byte = text[index]
      guard byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") else {
        continue
      }
      bytes.append(contentsOf: text[start..<index])
      start = index + 1
      bytes.append(UInt8(ascii: "\\"))
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"): bytes.append(byte)
      case 0x08: bytes.append(UInt8(ascii: "b"))
      case 0x09: bytes.append(UInt8(ascii: "t"))
      case 0x0A: bytes.append(UInt8(ascii: "n"))
      case 0x0C: bytes.append(UInt8(ascii: "f"))
      case 0x0D: bytes.append(UInt8(ascii: "r"))
      default:
        bytes.append(contentsOf: "u00".utf8)
        bytes.append(byte < 16 ? 48 : 49)
        let low = byte & 15
        bytes.append(low < 10 ? 48 + low : 87 + low)
      }
    }
    bytes.append(contentsOf: text[start...])
  }
}

/// Appends an integer in decimal.
package func appendDecimal(_ value: Int64, to output: inout [UInt8]) {
  if value < 0 { output.append(UInt8(ascii: "-")) }
  var magnitude = value.magnitude
  var digits: (UInt64, UInt64, UInt64) = (0, 0, 0)  // at most 20 digits, which need no heap
  let count = withUnsafeMutableBytes(of: &digits) { buffer in
    var count = 0
    repeat {
      buffer[count] = UInt8(48 + magnitude % 10)
      magnitude /= 10
      count += 1
    } while magnitude > 0
    return count
  }
  withUnsafeBytes(of: &digits) { buffer in
    for index in stride(from: count - 1, through: 0, by: -1) { output.append(buffer[index]) }
  }
}
