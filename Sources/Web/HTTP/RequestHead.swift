internal import Basics

/// The methods that routes use. Others are answered with 405.
package enum Method: String, Sendable, CaseIterable {
  case get = "GET"
  case head = "HEAD"
  case post = "POST"
  case put = "PUT"
  case patch = "PATCH"
  case delete = "DELETE"
  case options = "OPTIONS"

  /// Nil for a method that no route uses, and for what is not a method.
  init?(_ name: ArraySlice<UInt8>) {
    guard let method = Self.allCases.first(where: { name.elementsEqual($0.rawValue.utf8) }) else {
      return nil
    }
    self = method
  }

  /// Whether the method is safe (RFC 9110, 9.2.1): it only reads.
  package var isSafe: Bool { self == .get || self == .head || self == .options }
}

/// The header fields of a request, kept as the received bytes. Names are in lower case.
package struct Headers: Sendable {
  struct Field: Sendable {
    let name: Range<Int32>
    let value: Range<Int32>
  }

  private let bytes: [UInt8]
  private let fields: [Field]

  init(bytes: [UInt8], fields: [Field]) {
    self.bytes = bytes
    self.fields = fields
  }

  /// The value of the first field with this lower-case name, or nil.
  package subscript(name: StaticString) -> String? {
    guard let field = fields.first(where: { matches($0, name) }) else { return nil }
    return text(field.value)
  }

  /// The same as bytes, which may be anything but control characters.
  func bytes(of name: StaticString) -> ArraySlice<UInt8>? {
    guard let field = fields.first(where: { matches($0, name) }) else { return nil }
    return slice(field.value)
  }

  /// All values of this lower-case name, in order.
  package func all(_ name: StaticString) -> [String] {
    fields.filter { matches($0, name) }.map { text($0.value) }
  }

  /// Whether a comma-separated list contains this lower-case word, ignoring case.
  package func list(_ name: StaticString, contains word: String) -> Bool {
    var isFound = false
    visitList(name) { element in
      isFound = isWord(element, word)
      return !isFound
    }
    return isFound
  }

  /// Visits the elements of a comma-separated list, in order and without blanks around them, until `visit` returns
  /// false. Nothing is copied, because a list may be as long as a head. Quotes have no special meaning here.
  func visitList(_ name: StaticString, _ visit: (ArraySlice<UInt8>) -> Bool) {
    for field in fields where matches(field, name) {
      let value = slice(field.value)
      var start = value.startIndex
      while start < value.endIndex {
        let end = value[start...].firstIndex(of: UInt8(ascii: ",")) ?? value.endIndex
        if !visit(value[start..<end].trimmingBlanks()) { return }
        start = end + 1
      }
    }
  }

  func count(_ name: StaticString) -> Int {
    fields.reduce(0) { $0 + (matches($1, name) ? 1 : 0) }
  }

  func has(_ name: StaticString) -> Bool { fields.contains { matches($0, name) } }

  private func text(_ range: Range<Int32>) -> String {
    String(decoding: slice(range), as: UTF8.self)
  }

  private func slice(_ range: Range<Int32>) -> ArraySlice<UInt8> {
    bytes[Int(range.lowerBound)..<Int(range.upperBound)]
  }

  private func matches(_ field: Field, _ name: StaticString) -> Bool {
    field.name.count == name.utf8CodeUnitCount && isText(slice(field.name), name)
  }
}

extension ArraySlice<UInt8> {
  /// Without spaces and tabs at both ends (RFC 9110, 5.6.3).
  func trimmingBlanks() -> Self {
    let isBlank: (UInt8) -> Bool = { $0 == 0x20 || $0 == 0x09 }
    guard let first = firstIndex(where: { !isBlank($0) }),
      let last = lastIndex(where: { !isBlank($0) })
    else { return [] }
    return self[first...last]
  }
}

/// Whether the bytes equal a text.
func isText(_ bytes: ArraySlice<UInt8>, _ text: StaticString) -> Bool {
  guard bytes.count == text.utf8CodeUnitCount else { return false }
  for index in 0..<text.utf8CodeUnitCount
  where bytes[bytes.startIndex + index] != text.utf8Start[index] {
    return false
  }
  return true
}

/// Whether the text equals this lower-case word, ignoring the case of ASCII letters only. Unicode has other letters
/// with the same lower-case form (the Kelvin sign), which other HTTP implementations do not treat as equal.
func isWord(_ text: some Collection<UInt8>, _ word: String) -> Bool {
  text.count == word.utf8.count
    && zip(text, word.utf8).allSatisfy { byte, wanted in
      byte == wanted || ((65...90).contains(byte) && byte + 32 == wanted)
    }
}

/// How the length of a request's body is given (RFC 9112, 6).
package enum BodyFraming: Sendable, Equatable {
  /// There is no body, or it is empty.
  case none
  /// By its number of bytes, at least 1.
  case length(Int)
  case chunked
}

/// A request line with its header fields, validated (RFC 9112).
///
/// A class, because everything that handles a request refers to it.
package final class RequestHead: Sendable {
  /// Nil for a method that no route uses.
  package let method: Method?
  /// The path as received, still percent-encoded. Begins with `/`, or is `*`, which requests the options of the
  /// server.
  package let path: String
  /// The text after `?`, still encoded; empty if there is none.
  let queryText: String
  /// Whether this is HTTP/1.0.
  let isVersion10: Bool
  package let headers: Headers
  package let framing: BodyFraming

  init(
    method: Method?, path: String, queryText: String, isVersion10: Bool, headers: Headers,
    framing: BodyFraming
  ) {
    self.method = method
    self.path = path
    self.queryText = queryText
    self.isVersion10 = isVersion10
    self.headers = headers
    self.framing = framing
  }

  /// The length of the body: 0 if there is none, nil if it is chunked.
  package var bodyLength: Int? {
    switch framing {
    case .none: 0
    case .length(let length): length
    case .chunked: nil
    }
  }

  /// Whether the connection stays open for another request (RFC 9112, 9.3).
  var keepsAlive: Bool {
    guard headers.has("connection") else { return !isVersion10 }
    if headers.list("connection", contains: "close") { return false }
    return !isVersion10 || headers.list("connection", contains: "keep-alive")
  }

  /// Whether the client waits to be told to send the body (RFC 9110, 10.1.1). Never true for HTTP/1.0.
  var expectsContinue: Bool {
    !isVersion10 && framing != .none && headers.list("expect", contains: "100-continue")
  }

  /// The client's own id for this request, if it sent one.
  var givenID: String? { headers["x-request-id"] }
}
