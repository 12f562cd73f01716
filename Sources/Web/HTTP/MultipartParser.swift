internal import Basics

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// Parses a `multipart/form-data` body as it arrives (RFC 7578; RFC 2046, 5.1). A value: bytes go in, events come
/// out.
///
/// Strict: the body begins with its first delimiter, and lines end in CR LF. The number of parts and the length of
/// their headers are bounded, so that little is held here.
struct MultipartParser {
  struct Failure: Error, Equatable {
    let message: String
  }

  enum Event: Equatable {
    case part(MultipartPart)
    /// A piece of the part's content; never empty.
    case data([UInt8])
    case partEnd
    /// The last part has ended. What follows is ignored.
    case end
  }

  private enum State {
    /// Before the first delimiter.
    case start
    /// After a delimiter: another part, or the end.
    case delimiter
    case headers
    case data
    case done
  }

  private var state = State.start
  private var buffer = InputBuffer()
  private var partCount = 0
  private let maximumParts: Int
  /// The delimiter, with the line end that belongs to it.
  private let delimiter: [UInt8]

  private static let maximumHeaderBytes = 8 * 1024
  /// Blanks that may follow a delimiter.
  private static let maximumPaddingBytes = 16

  /// `boundary` has 1 to 70 characters (RFC 2046, 5.1.1).
  init(boundary: String, maximumParts: Int) {
    delimiter = Array("\r\n--\(boundary)".utf8)
    self.maximumParts = maximumParts
  }

  mutating func append(_ bytes: [UInt8]) { buffer.append(bytes) }

  /// The next event; nil if more input is needed. Throws `Failure`, also at the end of an incomplete body, which
  /// `isComplete` announces.
  mutating func next(isComplete: Bool) throws(Failure) -> Event? {
    while true {
      switch state {
      case .start:
        // There is no line end before the first delimiter.
        guard buffer.count >= delimiter.count - 2 else { return try needMore(isComplete) }
        let isThere = buffer.withUnsafeBytes { $0.starts(with: delimiter[2...]) }
        guard isThere else { throw Failure(message: "A form begins with its boundary.") }
        buffer.removeFirst(delimiter.count - 2)
        state = .delimiter
      case .delimiter:
        guard try skipDelimiterLine() else { return try needMore(isComplete) }
        if case .done = state { return .end }
      case .headers:
        guard let part = try readHeaders() else { return try needMore(isComplete) }
        state = .data
        return .part(part)
      case .data:
        guard let event = readData() else { return try needMore(isComplete) }
        return event
      case .done: return .end
      }
    }
  }

  private func needMore(_ isComplete: Bool) throws(Failure) -> Event? {
    if isComplete { throw Failure(message: "The form ends before its last boundary.") }
    return nil
  }

  /// Reads what follows a delimiter. Returns false if it has not arrived completely.
  private mutating func skipDelimiterLine() throws(Failure) -> Bool {
    let window = buffer.withUnsafeBytes { Array($0.prefix(Self.maximumPaddingBytes + 2)) }
    if window.starts(with: "--".utf8) {
      state = .done
      return true
    }
    let line = window.drop { $0 == 0x20 || $0 == 0x09 }
    if line.count < 2, window.count < Self.maximumPaddingBytes + 2 { return false }
    guard line.starts(with: [0x0D, 0x0A]) else {
      throw Failure(message: "A boundary of the form is followed by something else.")
    }
    partCount += 1
    guard partCount <= maximumParts else {
      throw Failure(message: "A form may have \(maximumParts) parts.")
    }
    buffer.removeFirst(window.count - line.count + 2)
    state = .headers
    return true
  }

  private mutating func readHeaders() throws(Failure) -> MultipartPart? {
    let limit = Self.maximumHeaderBytes
    let headers = buffer.withUnsafeBytes { bytes -> [UInt8]? in
      let window = bytes.prefix(limit + 4)
      if window.starts(with: [0x0D, 0x0A]) { return [0x0D, 0x0A] }
      var position = 0
      while position + 3 < window.count {
        if window[position] == 0x0D, window[position + 1] == 0x0A, window[position + 2] == 0x0D,
          window[position + 3] == 0x0A
        {
          return [UInt8](window[..<(position + 4)])
        }
        position += 1
      }
      return nil
    }
    guard let headers else {
      guard buffer.count < limit + 4 else {
        throw Failure(message: "The headers of a part are too long.")
      }
      return nil
    }
    buffer.removeFirst(headers.count)
    guard let part = MultipartPart(headers) else {
      throw Failure(message: "The headers of a part are malformed.")
    }
    return part
  }

  /// Content up to the next delimiter, or as much as certainly is content.
  private mutating func readData() -> Event? {
    let (count, isEnd) = buffer.withUnsafeBytes { contentLength($0) }
    if count > 0 { return .data(buffer.take(upTo: count)) }
    guard isEnd else { return nil }
    buffer.removeFirst(delimiter.count)
    state = .delimiter
    return .partEnd
  }

  /// How many bytes from the start certainly are content, and whether a delimiter follows them.
  private func contentLength(_ bytes: UnsafeRawBufferPointer) -> (count: Int, isEnd: Bool) {
    var position = 0
    while position < bytes.count, let base = bytes.baseAddress {
      guard let found = memchr(base + position, 0x0D, bytes.count - position) else {
        return (bytes.count, false)
      }
      let start = base.distance(to: UnsafeRawPointer(found))
      let length = min(delimiter.count, bytes.count - start)
      let isSame = bytes[start..<(start + length)].elementsEqual(delimiter[..<length])
      // An incomplete delimiter at the end of the input may still become one.
      if isSame { return (start, length == delimiter.count) }
      position = start + 1
    }
    return (bytes.count, false)
  }
}

/// The headers of a part.
package struct MultipartPart: Sendable, Equatable {
  /// The name of the form field.
  package let name: String
  /// The file name as the client sent it; nil if the part is not a file.
  package let filename: String?
  /// Nil if the client did not send one. It is only what the client claims.
  package let contentType: String?

  private static let maximumNameBytes = 1024

  init(name: String, filename: String?, contentType: String?) {
    self.name = name
    self.filename = filename
    self.contentType = contentType
  }

  /// Parses header lines with the empty line at their end. Nil if they are malformed, or do not name a field.
  init?(_ headers: [UInt8]) {
    guard let text = String(validating: headers, as: UTF8.self) else { return nil }
    var disposition: Substring?
    var contentType: String?
    for line in text.split(separator: "\r\n") {
      guard let colon = line.firstIndex(of: ":"), colon > line.startIndex else { return nil }
      let name = line[..<colon]
      guard name.utf8.allSatisfy(isTokenByte), !line.utf8.contains(where: { $0 < 0x20 && $0 != 9 })
      else { return nil }
      let value = line[line.index(after: colon)...].trimmingBlanks()
      switch name.lowercased() {
      case "content-disposition":
        guard disposition == nil else { return nil }
        disposition = value
      case "content-type": contentType = String(value)
      default: break
      }
    }
    guard let disposition, let parameters = Self.parameters(disposition),
      let name = parameters["name"], name.utf8.count <= Self.maximumNameBytes,
      parameters["filename"]?.utf8.count ?? 0 <= Self.maximumNameBytes
    else { return nil }
    self.init(name: name, filename: parameters["filename"], contentType: contentType)
  }

  /// The parameters of `form-data; name="a"; filename="b"`. Nil if the text has another form, or names a parameter
  /// twice.
  private static func parameters(_ text: Substring) -> [String: String]? {
    let kind = text.prefix { $0 != ";" }
    guard kind.trimmingBlanks().lowercased() == "form-data" else { return nil }
    var rest = text.utf8[kind.endIndex...]
    var found: [String: String] = [:]
    while true {
      rest = rest.drop { $0 == 0x20 || $0 == 0x09 }
      guard let next = rest.popFirst() else { return found }
      guard next == UInt8(ascii: ";") else { return nil }
      rest = rest.drop { $0 == 0x20 || $0 == 0x09 }
      if rest.isEmpty { return found }
      let name = rest.prefix(while: isTokenByte)
      rest = rest[name.endIndex...]
      guard !name.isEmpty, rest.popFirst() == UInt8(ascii: "=") else { return nil }
      guard let value = rest.first == UInt8(ascii: "\"") ? quoted(&rest) : token(&rest),
        found.updateValue(value, forKey: String(Substring(name)).lowercased()) == nil
      else { return nil }
    }
  }

  private static func token(_ rest: inout Substring.UTF8View.SubSequence) -> String? {
    let value = rest.prefix { $0 != UInt8(ascii: ";") && $0 > 0x20 }
    rest = rest[value.endIndex...]
    return value.isEmpty ? nil : String(Substring(value))
  }

  /// Browsers write a quote as `%22`. Other clients escape it with a backslash, which is part of the name if anything
  /// else follows (WHATWG HTML, "multipart/form-data"; RFC 7578, 4.2).
  private static func quoted(_ rest: inout Substring.UTF8View.SubSequence) -> String? {
    rest = rest.dropFirst()
    var bytes: [UInt8] = []
    while let byte = rest.popFirst() {
      switch byte {
      case UInt8(ascii: "\""):
        return String(validating: bytes, as: UTF8.self)
      case UInt8(ascii: "\\") where rest.first == UInt8(ascii: "\"") || rest.first == byte:
        if let next = rest.popFirst() { bytes.append(next) }
      case UInt8(ascii: "%") where rest.starts(with: "22".utf8):
        rest = rest.dropFirst(2)
        bytes.append(UInt8(ascii: "\""))
      default: bytes.append(byte)
      }
    }
    return nil
  }
}
