package import Basics

/// The error codes of faulty WebSocket frames. These codes occur in `error` frames only.
extension ErrorCode {
  /// All codes of this file.
  package static let frames: [ErrorCode] = [
    invalidFrame, unknownType, notSameUser,
  ]

  package static let invalidFrame = ErrorCode("invalid_frame", 422, "The frame is not valid.")
  package static let unknownType = ErrorCode(
    "unknown_type", 422, "The server does not know this type of frame.")
  package static let notSameUser = ErrorCode(
    "not_same_user", 403, "The token belongs to another user.")
}
