package import Basics

/// The error codes of faulty WebSocket frames. These codes occur in `error` frames only.
extension ErrorCode {
  /// All codes of this file.
  package static let frames: [ErrorCode] = [
    invalidFrame, unknownType, messageTooLarge, clientIDConflict, notSameUser,
  ]

  package static let invalidFrame = ErrorCode("invalid_frame", 422, "The frame is not valid.")
  package static let unknownType = ErrorCode(
    "unknown_type", 422, "The server does not know this type of frame.")
  package static let messageTooLarge = ErrorCode(
    "message_too_large", 413, "The message is too large.")
  package static let clientIDConflict = ErrorCode(
    "client_id_conflict", 409, "This client_id was used for another message.")
  package static let notSameUser = ErrorCode(
    "not_same_user", 403, "The token belongs to another user.")
}
