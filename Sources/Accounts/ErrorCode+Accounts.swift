package import Basics

/// Accounts and their sessions.
extension ErrorCode {
  /// All codes of this file.
  package static let accounts: [ErrorCode] = [
    invalidCredentials, invalidRefreshToken, wrongPassword, suspended, signupClosed,
    signupInvited, sessionNotFound, emailTaken, userNotFound, teamNotFound, handOverFirst,
    tooManyRooms, blocked,
  ]

  package static let invalidCredentials = ErrorCode(
    "invalid_credentials", 401, "E-mail address or password is wrong.")
  package static let invalidRefreshToken = ErrorCode(
    "invalid_refresh_token", 401, "The refresh token is not valid any more.")
  package static let wrongPassword = ErrorCode(
    "wrong_password", 403, "The current password is wrong.")
  package static let suspended = ErrorCode("suspended", 403, "This account is suspended.")
  package static let signupClosed = ErrorCode("signup_closed", 403, "Sign-up is closed.")
  package static let signupInvited = ErrorCode(
    "signup_by_invitation", 403, "Sign-up is by invitation only.")
  package static let sessionNotFound = ErrorCode(
    "session_not_found", 404, "You have no such session.")
  package static let emailTaken = ErrorCode(
    "email_taken", 409, "An account with this e-mail address exists.")
  package static let userNotFound = ErrorCode("user_not_found", 404, "There is no such person.")
  package static let teamNotFound = ErrorCode("team_not_found", 404, "There is no such team.")
  package static let tooManyRooms = ErrorCode(
    "too_many_rooms", 403, "You have made as many rooms or teams as one person may.")
  package static let blocked = ErrorCode("blocked", 403, "This person has blocked you.")
  package static let handOverFirst = ErrorCode(
    "hand_over_first", 409, "The super_admin has to hand the team over to somebody else first.")
}
