/// A failure that the caller may read: a stable code, a sentence for a person, and, for the log
/// only, what caused it.
package struct AppError: Error, Sendable {
  package struct Detail: Sendable, Equatable {
    package let field: String
    package let message: String

    package init(field: String, message: String) {
      self.field = field
      self.message = message
    }
  }

  package let code: ErrorCode
  /// Safe to show to anyone: no secret, no name of an internal thing.
  package let message: String
  /// Every field at fault, where the code is about fields; otherwise empty.
  package let details: [Detail]
  /// Seconds after which a retry makes sense; sent as `Retry-After`. 429 and 503 default to 1.
  package let retryAfter: Int?
  /// What caused it. Goes to the log and nowhere else.
  package let underlying: (any Error)?

  package init(
    _ code: ErrorCode, _ message: String? = nil, details: [Detail] = [], retryAfter: Int? = nil,
    underlying: (any Error)? = nil
  ) {
    self.code = code
    self.message = message ?? code.meaning
    self.details = details
    self.retryAfter = retryAfter
    self.underlying = underlying
  }
}

/// A stable word for programs, with the HTTP status it travels under. `docs/ERRORS.md` lists them
/// all; a test compares.
package struct ErrorCode: Hashable, Sendable {
  package let wire: String
  package let status: Int
  /// One sentence, and the message where whoever throws has nothing better to say.
  package let meaning: String

  private init(_ wire: String, _ status: Int, _ meaning: String) {
    self.wire = wire
    self.status = status
    self.meaning = meaning
  }
}

extension ErrorCode {
  // The request as such
  package static let badRequest = ErrorCode("bad_request", 400, "The request is malformed.")
  package static let invalidJSON = ErrorCode("invalid_json", 400, "The body is not a JSON object.")
  package static let notFound = ErrorCode("not_found", 404, "There is nothing at this address.")
  package static let methodNotAllowed = ErrorCode(
    "method_not_allowed", 405, "This address does not answer to that method.")
  package static let requestTimeout = ErrorCode(
    "request_timeout", 408, "The request took too long to arrive.")
  package static let preconditionFailed = ErrorCode(
    "precondition_failed", 412, "It has changed since, or is not what the request expects.")
  package static let bodyTooLarge = ErrorCode("body_too_large", 413, "The body is too large.")
  package static let unsupportedMediaType = ErrorCode(
    "unsupported_media_type", 415, "Send the body as application/json.")
  package static let rangeNotSatisfiable = ErrorCode(
    "range_not_satisfiable", 416, "The part that was asked for is beyond the end.")
  package static let validationFailed = ErrorCode(
    "validation_failed", 422, "Some fields are not valid.")
  package static let upgradeRequired = ErrorCode(
    "upgrade_required", 426, "This address speaks WebSocket only (RFC 6455, version 13).")
  package static let headersTooLarge = ErrorCode(
    "headers_too_large", 431, "The request line or the headers are too large.")
  package static let httpVersion = ErrorCode(
    "http_version_not_supported", 505, "This server speaks HTTP/1.1.")

  // Who, and may they
  package static let unauthenticated = ErrorCode(
    "unauthenticated", 401, "Log in first, or send a valid token.")
  package static let invalidToken = ErrorCode(
    "invalid_token", 401, "The token is not valid or has expired.")
  package static let invalidCredentials = ErrorCode(
    "invalid_credentials", 401, "E-mail address or password is wrong.")
  package static let invalidRefreshToken = ErrorCode(
    "invalid_refresh_token", 401, "The refresh token is not valid any more.")
  package static let wrongPassword = ErrorCode(
    "wrong_password", 403, "The current password is wrong.")
  package static let forbidden = ErrorCode("forbidden", 403, "You lack the right to do this.")
  package static let originNotAllowed = ErrorCode(
    "origin_not_allowed", 403, "Requests from this origin are not allowed.")
  package static let accountSuspended = ErrorCode(
    "account_suspended", 403, "This account is suspended.")
  package static let signupClosed = ErrorCode("signup_closed", 403, "Sign-up is closed.")
  package static let signupInvited = ErrorCode(
    "signup_by_invitation", 403, "Sign-up is by invitation only.")

  // Things
  package static let emailTaken = ErrorCode(
    "email_taken", 409, "An account with this e-mail address exists.")
  package static let roomNotFound = ErrorCode("room_not_found", 404, "There is no such room.")
  package static let ruleNotFound = ErrorCode(
    "rule_not_found", 404, "The room has no rule for this subject.")
  package static let invitationNotFound = ErrorCode(
    "invitation_not_found", 404, "No invitation to this room waits for you.")
  package static let sessionNotFound = ErrorCode(
    "session_not_found", 404, "You have no such session.")
  package static let tooManyRules = ErrorCode(
    "too_many_rules", 403, "The room holds as many rules as it may.")
  package static let tooManyRooms = ErrorCode(
    "too_many_rooms", 403, "You have made as many rooms as one person may.")
  package static let notAMember = ErrorCode(
    "not_a_member", 409, "You are in this room by your entity only; there is no rule of your own.")
  package static let roomFull = ErrorCode(
    "room_full", 422, "A conversation of two takes two people.")

  // The server
  package static let rateLimited = ErrorCode(
    "rate_limited", 429, "Too many requests; wait a little.")
  package static let internalError = ErrorCode(
    "internal_error", 500, "Something went wrong on our side.")
  package static let unavailable = ErrorCode(
    "unavailable", 503, "The server cannot do this at the moment; try again.")
  package static let timedOut = ErrorCode("timed_out", 503, "The server took too long; try again.")
  package static let tooManyConnections = ErrorCode(
    "too_many_connections", 503, "Too many connections are open.")

  // Relay only: these travel in error frames
  package static let invalidFrame = ErrorCode("invalid_frame", 422, "The frame is not valid.")
  package static let unknownType = ErrorCode(
    "unknown_type", 422, "The server does not know this type of frame.")
  package static let messageTooLarge = ErrorCode(
    "message_too_large", 413, "The message is too large.")
  package static let clientIDConflict = ErrorCode(
    "client_id_conflict", 409, "This client_id was used for another message.")
  package static let recipientNotInTeam = ErrorCode(
    "recipient_not_in_team", 422, "The recipient is not in this team.")
  package static let attachmentNotFound = ErrorCode(
    "attachment_not_found", 404, "There is no such attachment.")
  package static let notSameUser = ErrorCode(
    "not_same_user", 403, "The token belongs to another user.")

  // Why a room is `gone` from a socket
  package static let revoked = ErrorCode("revoked", 403, "You may not read this room any more.")
  package static let roomDeleted = ErrorCode("deleted", 404, "The room was deleted.")

  /// Every code, in the order of this file.
  package static let all: [ErrorCode] = [
    badRequest, invalidJSON, notFound, methodNotAllowed, requestTimeout,
    preconditionFailed, bodyTooLarge, unsupportedMediaType, rangeNotSatisfiable, validationFailed,
    upgradeRequired, headersTooLarge,
    httpVersion, unauthenticated, invalidToken, invalidCredentials, invalidRefreshToken,
    wrongPassword, forbidden, originNotAllowed, accountSuspended, signupClosed, signupInvited,
    emailTaken,
    roomNotFound, ruleNotFound, invitationNotFound, sessionNotFound, tooManyRules,
    tooManyRooms, notAMember, roomFull,
    rateLimited, internalError, unavailable, timedOut, tooManyConnections, invalidFrame,
    unknownType, messageTooLarge, clientIDConflict, recipientNotInTeam, attachmentNotFound,
    notSameUser, revoked, roomDeleted,
  ]
}
