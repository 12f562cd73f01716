package import Access
package import Basics

/// Identifies the caller if the route's policy asks for one, and refuses callers without the right.
///
/// A credential is a bearer token (on WebSockets also in a subprotocol) or the session cookie. A request that is
/// authenticated only by the cookie must come from our own pages: unsafe methods and upgrades need an allowed Origin.
package struct Authentication: Sendable {
  package static let cookieName = "martlet_session"
  private static let subprotocolTokenPrefix = "bearer."

  private let authenticator: any Authenticator
  private let origins: Origins
  private let tokenSubprotocol: String
  private let log: Log

  /// `tokenSubprotocol` is the WebSocket subprotocol with which a client may send its token in another subprotocol.
  package init(
    _ authenticator: any Authenticator, origins: Origins, tokenSubprotocol: String, log: Log
  ) {
    self.authenticator = authenticator
    self.origins = origins
    self.tokenSubprotocol = tokenSubprotocol
    self.log = log
  }

  /// Authenticates a request. Throws `AppError`: 401, 403, or what the authenticator throws.
  func authenticate(_ request: inout Request, for route: Route) async throws {
    let credential: Credential
    if let token = bearerToken(request) {
      (credential, request.credentialSource) = (.bearer(Secret(token)), .bearer)
    } else if route.kind == .webSocket, let token = subprotocolToken(request) {
      (credential, request.credentialSource) = (.bearer(Secret(token)), .subprotocol)
    } else if let cookie = request.cookie(Self.cookieName) {
      (credential, request.credentialSource) = (.cookie(Secret(cookie)), .cookie)
      if !request.method.isSafe || route.kind == .webSocket {
        try origins.requireAllowed(request)
      }
    } else {
      throw AppError(.unauthenticated)
    }
    let caller: Caller
    do { caller = try await authenticator.authenticate(credential) } catch {
      logRefusal(error, request)
      throw error
    }
    if route.policy.requirement == .localUser, caller.sessionID == nil {
      throw AppError(.forbidden, "Tokens of another system cannot do this.")
    }
    if route.policy.scope == .platform, !caller.isPlatformAdmin {
      throw AppError(.forbidden, "This is for platform admins.")
    }
    request.authenticated = caller
  }

  /// Logs the reason for the operator, without the credential's content.
  private func logRefusal(_ error: any Error, _ request: Request) {
    guard let failure = error as? AppError, failure.code == .invalidToken else { return }
    log.info(
      "token_refused",
      [
        "request_id": .string(request.id), "address": .init(request.address),
        "reason": .string(failure.underlying.map { "\($0)" } ?? failure.message),
      ])
  }

  private func bearerToken(_ request: Request) -> String? {
    guard let value = request.headers.bytes(of: "authorization"),
      let end = value.firstIndex(of: UInt8(ascii: " ")), isWord(value[..<end], "bearer")
    else { return nil }
    return String(decoding: value[end...].trimmingBlanks(), as: UTF8.self)
  }

  /// Browsers cannot set headers on a WebSocket, but they can offer subprotocols: ours, and one with the token.
  private func subprotocolToken(_ request: Request) -> String? {
    guard request.offers(subprotocol: tokenSubprotocol) else { return nil }
    let prefix = Self.subprotocolTokenPrefix.utf8
    var token: String?
    request.headers.visitList("sec-websocket-protocol") { offer in
      guard offer.starts(with: prefix) else { return true }
      token = String(decoding: offer.dropFirst(prefix.count), as: UTF8.self)
      return false
    }
    return token
  }
}
