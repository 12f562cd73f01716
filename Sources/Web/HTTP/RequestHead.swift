internal import Basics

/// The methods that routes use. Others are answered 405.
package enum Method: String, Sendable, CaseIterable {
  case get = "GET"
  case head = "HEAD"
  case post = "POST"
  case put = "PUT"
  case patch = "PATCH"
  case delete = "DELETE"
  case options = "OPTIONS"

  /// Whether RFC 9110 (9.2.1) calls it safe: it asks, and changes nothing.
  package var isSafe: Bool { self == .get || self == .head || self == .options }
}

/// A request's header fields, kept as the bytes they came in. Names are lower-case.
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

  /// The value of the first field of this lower-case name, or nil.
  package subscript(name: StaticString) -> String? {
    guard let field = fields.first(where: { matches($0, name) }) else { return nil }
    return text(field.value)
  }

  /// Every value of this lower-case name, in order.
  package func all(_ name: StaticString) -> [String] {
    fields.filter { matches($0, name) }.map { text($0.value) }
  }

  /// Whether a comma-separated list field holds this lower-case word, in any case.
  package func list(_ name: StaticString, contains word: String) -> Bool {
    all(name).contains { value in
      value.split(separator: ",").contains { $0.trimmingBlanks().lowercased() == word }
    }
  }

  func count(_ name: StaticString) -> Int {
    fields.reduce(0) { $0 + (matches($1, name) ? 1 : 0) }
  }

  private func text(_ range: Range<Int32>) -> String {
    String(decoding: bytes[Int(range.lowerBound)..<Int(range.upperBound)], as: UTF8.self)
  }

  private func matches(_ field: Field, _ name: StaticString) -> Bool {
    guard field.name.count == name.utf8CodeUnitCount else { return false }
    for index in 0..<name.utf8CodeUnitCount
    where bytes[Int(field.name.lowerBound) + index] != name.utf8Start[index] {
      return false
    }
    return true
  }
}

/// A request line and its header fields, checked (RFC 9112).
struct RequestHead: Sendable {
  /// Nil for a method that no route uses.
  let method: Method?
  /// The path as it came, still percent-encoded; starts with `/`.
  let path: String
  /// What stands behind `?`, still encoded; empty without.
  let query: String
  /// Whether this is HTTP/1.0.
  let isVersion10: Bool
  let headers: Headers
  /// Nil without a Content-Length.
  let contentLength: Int?

  /// Whether the connection stays for another request (RFC 9112, 9.3).
  var keepsAlive: Bool {
    if headers.list("connection", contains: "close") { return false }
    return !isVersion10 || headers.list("connection", contains: "keep-alive")
  }
}
