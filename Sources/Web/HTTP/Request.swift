package import Access
package import Basics
package import EventLoop

/// An HTTP request as its handler receives it. The head is complete; the body is read on demand.
package struct Request: Sendable {
  package let method: Method
  let head: RequestHead
  package let query: Query
  package let body: RequestBody
  /// The client's address: the peer's, or the one that a trusted proxy reported.
  package let address: IPAddress
  /// Whether the client used TLS, to this server or to a trusted proxy.
  package let isSecure: Bool
  /// The request id: the client's if it sent an acceptable one, or else a new one. Contained in the answer and in
  /// every log line.
  package let id: String
  /// The loop of the request's connection.
  package let loop: Loop
  let jsonBodies: JSONBodies
  /// How the credential was sent, if the route requires one.
  package internal(set) var credentialSource: CredentialSource?
  /// Set by `Authentication` on every route whose policy requires a caller. Handlers get it through
  /// `AuthenticatedRequest`.
  var authenticated: Caller?

  package enum CredentialSource: Sendable { case bearer, subprotocol, cookie }

  /// Percent-encoded, without the query.
  package var path: String { head.path }
  package var headers: Headers { head.headers }

  /// Lets sockets and other requests of this loop have a turn, in the middle of a long answer.
  package func yieldToLoop() async { await loop.nextTurn() }

  /// Whether this requests a WebSocket (RFC 6455, 4.2.1). HTTP/1.0 has no upgrades (RFC 9110, 7.8).
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

  /// Parses the body as a JSON object. Its memory counts in the budget until the request is answered. Throws
  /// `AppError`: 415 for another content type, before anything of the body is read; 400 if it is not one object; 413
  /// if it takes too much memory; and what `RequestBody` throws. With `mayBeAbsent` no body counts as an empty object.
  package func json(mayBeAbsent: Bool = false) async throws -> JSONObject {
    if let type = headers["content-type"] {
      let media = type.prefix { $0 != ";" }.trimmingBlanks().lowercased()
      guard media == "application/json" || media.hasSuffix("+json") else {
        throw AppError(.unsupportedMediaType)
      }
    }
    return try await jsonBodies.object(of: body, mayBeAbsent: mayBeAbsent, from: address.site)
  }
}

/// A request with its caller: what handlers receive if their route's policy requires a caller.
@dynamicMemberLookup
package struct AuthenticatedRequest: Sendable {
  package let request: Request
  package let caller: Caller

  /// Throws `unauthenticated` if the request was not authenticated.
  init(_ request: Request) throws(AppError) {
    guard let caller = request.authenticated else { throw AppError(.unauthenticated) }
    self.request = request
    self.caller = caller
  }

  package subscript<Value>(dynamicMember member: KeyPath<Request, Value>) -> Value {
    request[keyPath: member]
  }

  /// The same as `Request.json`.
  package func json(mayBeAbsent: Bool = false) async throws -> JSONObject {
    try await request.json(mayBeAbsent: mayBeAbsent)
  }
}
