package import Basics

/// Rooms, their rules and their messages.
extension ErrorCode {
  /// All codes of this file.
  package static let chat: [ErrorCode] = [
    roomNotFound, ruleNotFound, invitationNotFound, attachmentNotFound, tooManyRules, tooManyRooms,
    notAMember, roomFull,
  ]

  package static let roomNotFound = ErrorCode("room_not_found", 404, "There is no such room.")
  package static let ruleNotFound = ErrorCode(
    "rule_not_found", 404, "The room has no rule for this subject.")
  package static let invitationNotFound = ErrorCode(
    "invitation_not_found", 404, "No invitation to this room waits for you.")
  package static let attachmentNotFound = ErrorCode(
    "attachment_not_found", 404, "There is no such attachment.")
  package static let tooManyRules = ErrorCode(
    "too_many_rules", 403, "The room holds as many rules as it may.")
  package static let tooManyRooms = ErrorCode(
    "too_many_rooms", 403, "You have made as many rooms as one person may.")
  package static let notAMember = ErrorCode(
    "not_a_member", 409, "You are in this room by your entity only; there is no rule of your own.")
  package static let roomFull = ErrorCode(
    "room_full", 422, "A conversation of two takes two people.")
}
