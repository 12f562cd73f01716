package import Basics

/// Rooms, their rules and their messages.
extension ErrorCode {
  /// All codes of this file.
  package static let chat: [ErrorCode] = [
    roomNotFound, ruleNotFound, invitationNotFound, attachmentNotFound, tooManyRules,
    roomFull, managedByTeam, roleNotFound, roleInUse, tooManyPeople, tooManyRoles,
    recipientNotInTeam, messageNotFound, messageDeleted, tooManyReactions,
    clientIDConflict, messageTooLarge, secretRoom, reportNotFound,
  ]

  package static let roomNotFound = ErrorCode("room_not_found", 404, "There is no such room.")
  package static let ruleNotFound = ErrorCode(
    "rule_not_found", 404, "The room has no rule for this subject.")
  package static let invitationNotFound = ErrorCode(
    "invitation_not_found", 404, "No such invitation waits for you.")
  package static let attachmentNotFound = ErrorCode(
    "attachment_not_found", 404, "There is no such attachment.")
  package static let tooManyRules = ErrorCode(
    "too_many_rules", 403, "The room holds as many rules as it may.")
  package static let roomFull = ErrorCode(
    "room_full", 422, "A conversation of two takes two people.")
  package static let managedByTeam = ErrorCode(
    "managed_by_team", 409, "This room belongs to a team and changes with it.")
  package static let roleNotFound = ErrorCode(
    "role_not_found", 404, "The room has no such role.")
  package static let roleInUse = ErrorCode(
    "role_in_use", 409, "Somebody in the room has this role.")
  package static let tooManyPeople = ErrorCode(
    "too_many_people", 403, "The room holds as many people as it may.")
  package static let tooManyRoles = ErrorCode(
    "too_many_roles", 403, "The room holds as many roles as it may.")
  package static let recipientNotInTeam = ErrorCode(
    "recipient_not_in_team", 422, "The recipient is not in this team.")
  package static let messageNotFound = ErrorCode(
    "message_not_found", 404, "The room has no such message.")
  package static let messageDeleted = ErrorCode(
    "message_deleted", 409, "The message was deleted.")
  package static let tooManyReactions = ErrorCode(
    "too_many_reactions", 422, "The message holds as many different reactions as it may.")
  package static let clientIDConflict = ErrorCode(
    "client_id_conflict", 409, "This client_id was used for another message.")
  package static let messageTooLarge = ErrorCode(
    "message_too_large", 413, "The message is too large.")
  package static let secretRoom = ErrorCode(
    "secret_room", 403, "Messages of a secret room stay there.")
  package static let reportNotFound = ErrorCode(
    "report_not_found", 404, "There is no such report.")
}
