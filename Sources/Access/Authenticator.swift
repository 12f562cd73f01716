package import Basics

/// The secret by which a client proves whose requests it sends.
package enum Credential: Sendable {
  /// A token, of this server or of another system.
  case bearer(Secret<String>)
  /// The browser's session cookie.
  case cookie(Secret<String>)
}

/// A port that finds the caller to whom a credential belongs. Today credentials are sessions of this server's accounts
/// and tokens of other systems; OIDC is to follow.
package protocol Authenticator: Sendable {
  /// Returns the caller, with the claims that it has now. Throws `AppError`: `invalid_token` for any credential that is
  /// not valid, and `unavailable` if that cannot be determined, for example because this node's knowledge of ended
  /// sessions is too old (`Freshness`).
  func authenticate(_ credential: Credential) async throws -> Caller

  /// Throws `AppError` `invalid_token` if the caller's credential has expired or its session has ended. Reads memory
  /// only, because it is called for every frame.
  func check(_ caller: Caller) throws(AppError)

  /// Whether the session has ended, as far as this node knows. Reads memory only.
  func hasEnded(_ session: SessionID) -> Bool

  /// Records that the caller's credential is in use, for example by a long-lived socket.
  func noteUse(of caller: Caller)
}
