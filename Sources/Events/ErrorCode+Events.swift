package import Basics

/// The reasons for which a socket is told that a room is `gone`.
extension ErrorCode {
  /// All codes of this file.
  package static let events: [ErrorCode] = [
    revoked, roomDeleted,
  ]

  package static let revoked = ErrorCode("revoked", 403, "You may not read this room any more.")
  package static let roomDeleted = ErrorCode("deleted", 404, "The room was deleted.")
}
