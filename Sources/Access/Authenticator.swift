package import Basics

/// What a client shows to say who it is.
package enum Credential: Sendable {
  /// A token: ours or another system's.
  case bearer(Secret<String>)
  /// The browser's session cookie.
  case cookie(Secret<String>)
}

/// Tells who a credential belongs to. Port: accounts and tokens of another system today; OIDC later.
package protocol Authenticator: Sendable {
  /// The caller, with claims as of now. Throws `AppError` `invalid_token` for any credential that is
  /// not valid, and `unavailable` where that could not be found out, also where this node's knowledge
  /// of ended sessions is too old (`Freshness`).
  func authenticate(_ credential: Credential) async throws -> Caller

  /// Throws `AppError` `invalid_token` where the caller's credential has expired or its session has
  /// ended since. Touches memory only: called for every frame.
  func check(_ caller: Caller) throws(AppError)

  /// Whether the session has ended, as far as this node knows. Touches memory only.
  func hasEnded(_ session: SessionID) -> Bool

  /// Notes that the caller's credential is in use, as by a socket that lives long.
  func noteUse(of caller: Caller)
}
