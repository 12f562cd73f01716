package import Access
package import Basics
package import EventLoop

/// One HTTP request, complete with its body.
package struct Request: Sendable {
  package let method: Method
  /// Percent-encoded, without the query.
  package let path: String
  package let query: Query
  package let headers: Headers
  package let body: [UInt8]
  /// The client's address: the peer's, or what a trusted proxy said.
  package internal(set) var address: IPAddress
  /// Whether the client reached us over TLS, here or at a trusted proxy.
  package internal(set) var isSecure: Bool
  /// Ours, or the client's where it sent a fitting one; in the answer and in every log line.
  package internal(set) var id: String
  /// The loop that the connection lives on.
  package let loop: Loop
  /// How this request's credential was carried, where the route asks for one.
  package internal(set) var credentialSource: CredentialSource?
  /// Set by the authentication middleware on every route whose policy asks for a caller. Handlers get
  /// it by `AuthenticatedRequest`.
  var authenticated: Caller?

  package enum CredentialSource: Sendable { case bearer, subprotocol, cookie }

  /// Lets sockets and other requests of this loop have a turn, in the middle of a long answer.
  package func letOthersRun() async { await loop.nextTurn() }

  /// Whether this asks for a WebSocket (RFC 6455, 4.2.1).
  package var isWebSocketUpgrade: Bool {
    headers.list("upgrade", contains: "websocket")
      && headers.list("connection", contains: "upgrade")
  }

  /// The value of a cookie, or nil (RFC 6265, 5.4).
  package func cookie(_ name: String) -> String? {
    for header in headers.all("cookie") {
      for pair in header.split(separator: ";") {
        let parts = pair.trimmingBlanks().split(separator: "=", maxSplits: 1)
        if parts.count == 2, parts[0] == name { return String(parts[1]) }
      }
    }
    return nil
  }

  /// The body as a JSON object. Throws `AppError`: 415 for another type, 400 where it is none.
  package func json(maximumDepth: Int = JSONParser.defaultMaximumDepth) throws -> JSONObject {
    if let type = headers["content-type"] {
      let media = type.prefix { $0 != ";" }.trimmingBlanks().lowercased()
      guard media == "application/json" || media.hasSuffix("+json") else {
        throw AppError(.unsupportedMediaType)
      }
    }
    do {
      guard let object = try JSONParser.parse(body, maximumDepth: maximumDepth).object else {
        throw AppError(.invalidJSON)
      }
      return object
    } catch let failure as JSONParser.Failure {
      throw AppError(.invalidJSON, "The body is not JSON: \(failure).")
    }
  }
}

/// A request with who asks: what handlers of routes get whose policy lets only callers in.
@dynamicMemberLookup
package struct AuthenticatedRequest: Sendable {
  package let request: Request
  package let caller: Caller

  /// Throws `unauthenticated` where the middleware that finds out who asks is missing.
  init(_ request: Request) throws(AppError) {
    guard let caller = request.authenticated else { throw AppError(.unauthenticated) }
    self.request = request
    self.caller = caller
  }

  package subscript<Value>(dynamicMember member: KeyPath<Request, Value>) -> Value {
    request[keyPath: member]
  }

  /// As `Request.json`.
  package func json(maximumDepth: Int) throws -> JSONObject {
    try request.json(maximumDepth: maximumDepth)
  }
}

/// The parameters behind a request's `?`, decoded (WHATWG URL, `application/x-www-form-urlencoded`).
package struct Query: Sendable {
  private let items: [(name: String, value: String)]

  init(_ text: String) {
    guard !text.isEmpty else {
      items = []
      return
    }
    items = text.split(separator: "&").map { pair in
      let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      return (
        percentDecoded(parts[0], plusIsSpace: true) ?? String(parts[0]),
        parts.count < 2 ? "" : percentDecoded(parts[1], plusIsSpace: true) ?? String(parts[1])
      )
    }
  }

  /// The first value of this name, or nil.
  package subscript(name: String) -> String? { items.first { $0.name == name }?.value }
}

/// Decodes percent-encoding; nil where it is malformed or the result is not UTF-8 or holds U+0000.
func percentDecoded(_ text: Substring, plusIsSpace: Bool = false) -> String? {
  var bytes: [UInt8] = []
  bytes.reserveCapacity(text.utf8.count)
  var iterator = text.utf8.makeIterator()
  while let byte = iterator.next() {
    switch byte {
    case UInt8(ascii: "%"):
      guard let high = iterator.next().flatMap(hexDigit),
        let low = iterator.next().flatMap(hexDigit)
      else { return nil }
      guard high != 0 || low != 0 else { return nil }
      bytes.append(high << 4 | low)
    case UInt8(ascii: "+") where plusIsSpace: bytes.append(0x20)
    default: bytes.append(byte)
    }
  }
  return String(validating: bytes, as: UTF8.self)
}

extension Query {
  /// The parameters as fields, to be read with types and limits.
  package var fields: Fields {
    var object = JSONObject()
    var seen: Set<String> = []
    for item in items where seen.insert(item.name).inserted {
      object.append(item.name, .string(item.value))
    }
    return Fields(object)
  }
}

/// A page of a list as asked for.
package struct PageRequest: Sendable {
  package let limit: Int
  /// What an earlier answer gave as `next_cursor`, or nil for the first page.
  package let cursor: String?

  /// Reads `limit` (1 to 200, default 50) and `cursor`; faults go to `fields`.
  package init(_ fields: inout Fields) {
    limit = Int(fields.optionalInteger("limit", 1...200) ?? 50)
    cursor = fields.optionalString("cursor", 1...200)
  }
}
