package import Basics

/// What a client shows to prove who it is.
package enum Credential: Sendable {
  /// A token, of this server or of another system.
  case bearer(Secret<String>)
  /// The browser's session cookie.
  case cookie(Secret<String>)
}

/// Finds the caller that a credential belongs to. A port: accounts of this server and tokens of other systems today,
/// OIDC later.
package protocol Authenticator: Sendable {
  /// The caller, with its present claims. Throws `AppError` `invalid_token` for any credential that is not valid, and
  /// `unavailable` if that could not be determined, also when this node's knowledge of ended sessions is too old
  /// (`Freshness`).
  func authenticate(_ credential: Credential) async throws -> Caller

  /// Throws `AppError` `invalid_token` if the caller's credential has expired or its session has ended. Reads memory
  /// only, because it is called for every frame.
  func check(_ caller: Caller) throws(AppError)

  /// Whether the session has ended, as far as this node knows. Reads memory only.
  func hasEnded(_ session: SessionID) -> Bool

  /// Notes that the caller's credential is in use, for example by a long-lived socket.
  func noteUse(of caller: Caller)
}
