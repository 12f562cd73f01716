package import Basics

/// Errors about who makes a request, and what they may do.
extension ErrorCode {
  /// All codes of this file.
  package static let access: [ErrorCode] = [
    unauthenticated, invalidToken, forbidden,
  ]

  package static let unauthenticated = ErrorCode(
    "unauthenticated", 401, "Log in first, or send a valid token.")
  package static let invalidToken = ErrorCode(
    "invalid_token", 401, "The token is not valid or has expired.")
  package static let forbidden = ErrorCode("forbidden", 403, "You lack the right to do this.")
}
