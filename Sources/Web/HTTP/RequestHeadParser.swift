internal import Basics

/// Parses a request's head from the bytes of a connection, strictly (RFC 9112): lines end in CR LF, no folded lines,
/// one Host, one way to give the body's length. Everything that two parsers could read differently is refused, so
/// that no proxy in front sees other requests than this server does.
///
/// Call `scan` whenever bytes arrive. It continues where it stopped, so slow senders cost nothing extra.
struct RequestHeadParser {
  /// Why a head cannot be served. The connection is closed after the answer.
  struct Failure: Error, Equatable {
    let code: ErrorCode
    let message: String
    /// The client's id for the request, if that part of the head could be read.
    var givenID: String?
  }

  private let maximumBytes: Int
  /// The bytes that were scanned already.
  private var scanned = 0
  private var lineStart = 0
  private var start = 0

  private static let maximumFields = 128

  init(maximumBytes: Int) { self.maximumBytes = maximumBytes }

  /// Looks for the end of the head in all bytes of this request so far. Returns the length of the head with its empty
  /// line, or nil if more is needed.
  mutating func scan(_ bytes: UnsafeRawBufferPointer) throws(Failure) -> Int? {
    while scanned < bytes.count {
      let byte = bytes[scanned]
      if byte == 0x0A {
        guard scanned > 0, bytes[scanned - 1] == 0x0D else {
          throw Failure(code: .badRequest, message: "Lines of a request end in CR LF.")
        }
        let isEmptyLine = scanned - 1 == lineStart
        let isLeading = lineStart == start
        scanned += 1
        if isEmptyLine, !isLeading, scanned <= maximumBytes { return scanned }
        // Empty lines before the request line are ignored (RFC 9112, 2.2).
        if isEmptyLine { start = scanned }
        lineStart = scanned
      } else {
        scanned += 1
      }
      guard scanned <= maximumBytes else {
        throw Failure(code: .headersTooLarge, message: ErrorCode.headersTooLarge.meaning)
      }
    }
    return nil
  }

  /// Parses the head, which `scan` found to be `length` bytes long.
  func parse(_ bytes: UnsafeRawBufferPointer, length: Int) throws(Failure) -> RequestHead {
    guard start < length, length <= bytes.count else { throw bad("The request line is malformed.") }
    var head = [UInt8](UnsafeRawBufferPointer(rebasing: bytes[start..<length]))
    guard let lineEnd = head.firstIndex(of: 0x0D), lineEnd + 1 < head.count,
      head[lineEnd + 1] == 0x0A
    else { throw bad("The request line is malformed.") }
    let line: RequestLine
    do { line = try requestLine(head[..<lineEnd]) } catch {
      // The request line is at fault already; further faults in the fields change nothing.
      let fields = try? self.fields(&head, from: lineEnd + 2)
      throw Failure(
        code: error.code, message: error.message,
        givenID: fields.flatMap { Headers(bytes: head, fields: $0)["x-request-id"] })
    }
    let fields = try fields(&head, from: lineEnd + 2)
    let headers = Headers(bytes: head, fields: fields)
    do {
      try checkHost(headers, line)
      try checkSingletons(headers)
      return RequestHead(
        method: line.method, path: line.path, queryText: line.query,
        isVersion10: line.isVersion10, headers: headers,
        framing: try framing(headers, isVersion10: line.isVersion10))
    } catch {
      throw Failure(code: error.code, message: error.message, givenID: headers["x-request-id"])
    }
  }

  private func bad(_ message: String) -> Failure { Failure(code: .badRequest, message: message) }

  // MARK: Request line

  private struct RequestLine {
    let method: Method?
    let path: String
    let query: String
    let isVersion10: Bool
    /// The host and port in the request target, if it has them.
    let authority: ArraySlice<UInt8>?
  }

  private func requestLine(_ line: ArraySlice<UInt8>) throws(Failure) -> RequestLine {
    guard let first = line.firstIndex(of: 0x20), let last = line.lastIndex(of: 0x20),
      line.startIndex < first, first < last, line[..<first].allSatisfy(isTokenByte),
      !line[(first + 1)..<last].contains(0x20)
    else { throw bad("The request line is malformed.") }
    let version = line[(last + 1)...]
    guard version.count == 8, isText(version.prefix(5), "HTTP/") else {
      throw bad("The request line is malformed.")
    }
    let isVersion10 = isText(version, "HTTP/1.0")
    guard isVersion10 || isText(version, "HTTP/1.1") else {
      throw Failure(code: .httpVersion, message: ErrorCode.httpVersion.meaning)
    }
    let method = Method(line[..<first])
    let (authority, target) = try target(line[(first + 1)..<last], of: method)
    let mark = target.firstIndex(of: UInt8(ascii: "?")) ?? target.endIndex
    let path = target[..<mark]
    let query = mark == target.endIndex ? target[mark...] : target[(mark + 1)...]
    return RequestLine(
      method: method, path: path.isEmpty ? "/" : String(decoding: path, as: UTF8.self),
      query: String(decoding: query, as: UTF8.self), isVersion10: isVersion10,
      authority: authority)
  }

  /// The path of a target with its query, and the host with its port if the target has them (RFC 9112, 3.2).
  private func target(
    _ target: ArraySlice<UInt8>, of method: Method?
  ) throws(Failure) -> (authority: ArraySlice<UInt8>?, rest: ArraySlice<UInt8>) {
    guard target.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "#") }) else {
      throw bad("The request target holds a character that it may not.")
    }
    if target.first == UInt8(ascii: "/") { return (nil, target) }
    if target.elementsEqual("*".utf8) {
      guard method == .options else { throw bad("The target * is for OPTIONS only.") }
      return (nil, target)
    }
    // The absolute form is for proxies, but servers must accept it.
    let lowered = target.prefix(8).map { (65...90).contains($0) ? $0 + 32 : $0 }
    for scheme in ["http://", "https://"] where lowered.starts(with: scheme.utf8) {
      let rest = target.dropFirst(scheme.utf8.count)
      let end =
        rest.firstIndex { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "?") } ?? rest.endIndex
      return (rest[..<end], rest[end...])
    }
    throw bad("The request target must start with a slash.")
  }

  // MARK: Fields

  /// Splits the lines after the request line, and converts names to lower case in place.
  private func fields(_ head: inout [UInt8], from begin: Int) throws(Failure) -> [Headers.Field] {
    var fields: [Headers.Field] = []
    fields.reserveCapacity(12)
    var position = begin
    while true {
      guard position + 1 < head.count else { throw bad("The headers are malformed.") }
      if head[position] == 0x0D, head[position + 1] == 0x0A { return fields }
      guard fields.count < Self.maximumFields else {
        throw Failure(code: .headersTooLarge, message: "Too many header fields.")
      }
      let nameStart = position
      while position < head.count, isTokenByte(head[position]) {
        if (65...90).contains(head[position]) { head[position] += 32 }
        position += 1
      }
      // Not a colon: there is a blank before it, a folded line (RFC 9112, 5.2), or no field at all.
      guard position < head.count, head[position] == UInt8(ascii: ":"), position > nameStart else {
        throw bad("A header line is malformed.")
      }
      let nameEnd = position
      position += 1
      while position < head.count, head[position] == 0x20 || head[position] == 0x09 {
        position += 1
      }
      let valueStart = position
      while position < head.count, head[position] != 0x0D {
        let byte = head[position]
        guard byte >= 0x20 && byte != 0x7F || byte == 0x09 else {
          throw bad("A header holds a control character.")
        }
        position += 1
      }
      guard position + 1 < head.count, head[position + 1] == 0x0A else {
        throw bad("A header line is malformed.")
      }
      var valueEnd = position
      while valueEnd > valueStart, head[valueEnd - 1] == 0x20 || head[valueEnd - 1] == 0x09 {
        valueEnd -= 1
      }
      // The lengths fit: a head has at most `maximumBytes`, one megabyte.
      fields.append(
        Headers.Field(
          name: Int32(nameStart)..<Int32(nameEnd), value: Int32(valueStart)..<Int32(valueEnd)))
      position += 2
    }
  }

  private func checkHost(_ headers: Headers, _ line: RequestLine) throws(Failure) {
    let count = headers.count("host")
    guard count == 1 || (count == 0 && line.isVersion10) else {
      throw bad(count == 0 ? "The Host header is missing." : "The Host header is given twice.")
    }
    if let host = headers.bytes(of: "host"), !HostName.isValid(host) {
      throw bad("The Host header is malformed.")
    }
    if let authority = line.authority, !HostName.isValid(authority) {
      throw bad("The request target names no host.")
    }
  }

  /// Fields that may occur only once: two readers would choose differently between two of them.
  private static let singletons: [StaticString] = [
    "authorization", "content-type", "expect", "origin", "sec-websocket-key",
    "sec-websocket-version", "x-forwarded-proto",
  ]

  private func checkSingletons(_ headers: Headers) throws(Failure) {
    for name in Self.singletons where headers.count(name) > 1 {
      throw bad("The header \(name) is given twice.")
    }
  }

  private func framing(_ headers: Headers, isVersion10: Bool) throws(Failure) -> BodyFraming {
    let lengths = headers.all("content-length")
    let encodings = headers.all("transfer-encoding")
    if !encodings.isEmpty {
      // With a Content-Length as well, this is the classic request smuggling attack. HTTP/1.0 has no chunks (RFC
      // 9112, 6.1).
      guard lengths.isEmpty, !isVersion10, encodings.count == 1,
        isWord(encodings[0].utf8, "chunked")
      else { throw bad("This Transfer-Encoding is not understood here.") }
      return .chunked
    }
    guard let text = lengths.first else { return .none }
    guard lengths.count == 1, !text.isEmpty, text.utf8.count <= 18,
      text.utf8.allSatisfy({ (48...57).contains($0) }), let length = Int(text)
    else { throw bad("The Content-Length is malformed.") }
    return length == 0 ? .none : .length(length)
  }
}

/// The characters of names and methods (RFC 9110, 5.6.2).
func isTokenByte(_ byte: UInt8) -> Bool {
  switch byte {
  case 48...57, 65...90, 97...122: true
  case UInt8(ascii: "!"), UInt8(ascii: "#"), UInt8(ascii: "$"), UInt8(ascii: "%"),
    UInt8(ascii: "&"), UInt8(ascii: "'"), UInt8(ascii: "*"), UInt8(ascii: "+"),
    UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "^"), UInt8(ascii: "_"),
    UInt8(ascii: "`"), UInt8(ascii: "|"), UInt8(ascii: "~"):
    true
  default: false
  }
}
