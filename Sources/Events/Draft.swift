package import Basics

/// A message on its way into the log: checked for form, with the id it will have.
package struct Draft: Sendable {
  /// Whether the sender may write, as it was found before the draft was handed over.
  package enum Access: Sendable {
    /// Checked under this access version of the room; the log takes it under no other.
    case granted(version: Int64)
    /// The sender may not, for this reason, and only wants to hear of a message that is in the log
    /// already.
    case denied(ErrorCode)
  }

  /// Made by the session and unique in the log.
  package let id: MessageID
  package let roomID: RoomID
  /// The room's channel as clients name it.
  package let channelID: String
  package let from: UserID
  package let type: MessageType
  package let data: String
  /// What the sender calls it; the key of a retry is (room, sender, client id).
  package let clientID: String?
  package var access: Access
  /// Who hears of the outcome.
  package let origin: Origin

  package init(
    id: MessageID, roomID: RoomID, channelID: String, from: UserID, type: MessageType, data: String,
    clientID: String?, access: Access, origin: Origin
  ) {
    self.id = id
    self.roomID = roomID
    self.channelID = channelID
    self.from = from
    self.type = type
    self.data = data
    self.clientID = clientID
    self.access = access
    self.origin = origin
  }
}
