package import Basics

/// Errors about who makes a request, and what they may do.
extension ErrorCode {
  /// All codes of this file.
  package static let access: [ErrorCode] = [
    unauthenticated, invalidToken, forbidden, notAMember,
  ]

  package static let unauthenticated = ErrorCode(
    "unauthenticated", 401, "Log in first, or send a valid token.")
  package static let invalidToken = ErrorCode(
    "invalid_token", 401, "The token is not valid or has expired.")
  package static let forbidden = ErrorCode("forbidden", 403, "You lack the right to do this.")
  package static let notAMember = ErrorCode(
    "not_a_member", 409,
    "You are here only by an entity, a team or an organization, so you cannot leave by yourself.")
}
