package import Access
package import Basics
package import EventLoop

/// One HTTP request, as its route's handler gets it: the head is here, the body comes when it is asked for.
package struct Request: Sendable {
  package let method: Method
  let head: RequestHead
  package let query: Query
  package let body: RequestBody
  /// The client's address: the peer's, or what a trusted proxy said.
  package let address: IPAddress
  /// Whether the client reached us over TLS, here or at a trusted proxy.
  package let isSecure: Bool
  /// Ours, or the client's where it sent a fitting one; in the answer and in every log line.
  package let id: String
  /// The loop that the connection lives on.
  package let loop: Loop
  let jsonBodies: JSONBodies
  /// How this request's credential was carried, where the route asks for one.
  package internal(set) var credentialSource: CredentialSource?
  /// Set by `Authentication` on every route whose policy asks for a caller. Handlers get it by
  /// `AuthenticatedRequest`.
  var authenticated: Caller?

  package enum CredentialSource: Sendable { case bearer, subprotocol, cookie }

  /// Percent-encoded, without the query.
  package var path: String { head.path }
  package var headers: Headers { head.headers }

  /// Lets sockets and other requests of this loop have a turn, in the middle of a long answer.
  package func yieldToLoop() async { await loop.nextTurn() }

  /// Whether this asks for a WebSocket (RFC 6455, 4.2.1). HTTP/1.0 has no upgrades (RFC 9110, 7.8).
  package var isWebSocketUpgrade: Bool {
    !head.isVersion10 && headers.list("upgrade", contains: "websocket")
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

  /// The body as a JSON object, whose memory is held of the budget until the request is answered. Throws `AppError`: 415 for
  /// another type, before anything of it is read; 400 where it is none; 413 where it takes too much memory; what `RequestBody`
  /// throws.
  package func json() async throws -> JSONObject {
    if let type = headers["content-type"] {
      let media = type.prefix { $0 != ";" }.trimmingBlanks().lowercased()
      guard media == "application/json" || media.hasSuffix("+json") else {
        throw AppError(.unsupportedMediaType)
      }
    }
    return try await jsonBodies.object(of: body, from: address.site)
  }
}

/// A request with who asks: what handlers of routes get whose policy lets only callers in.
@dynamicMemberLookup
package struct AuthenticatedRequest: Sendable {
  package let request: Request
  package let caller: Caller

  /// Throws `unauthenticated` where nobody has found out who asks.
  init(_ request: Request) throws(AppError) {
    guard let caller = request.authenticated else { throw AppError(.unauthenticated) }
    self.request = request
    self.caller = caller
  }

  package subscript<Value>(dynamicMember member: KeyPath<Request, Value>) -> Value {
    request[keyPath: member]
  }

  /// As `Request.json`.
  package func json() async throws -> JSONObject { try await request.json() }
}
