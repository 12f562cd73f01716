package import Basics

/// An entry on its way into the log: checked for form, with the id it will have.
///
/// Immutable and shared by reference: it is handed on several times before it is in the log.
package final class Draft: Sendable {
  /// What the writer's right rests on, as it was checked before the draft was handed over. The log
  /// looks again, inside its commit, whether all of it still holds.
  package struct Grant: Sendable, Equatable {
    /// The access version of the room.
    package let accessVersion: Int64
    /// The version of what the account belongs to; nil where the right does not rest on that.
    package let affiliationsVersion: Int64?
    /// The session of the credential; nil for tokens of another system.
    package let session: SessionID?

    package init(accessVersion: Int64, affiliationsVersion: Int64? = nil, session: SessionID? = nil)
    {
      self.accessVersion = accessVersion
      self.affiliationsVersion = affiliationsVersion
      self.session = session
    }
  }

  package enum Access: Sendable, Equatable {
    case granted(Grant)
    /// The writer may not, for this reason, and only wants to hear of an entry that is in the log
    /// already.
    case denied(ErrorCode)
    /// The transaction that appends has decided, holding the room's head.
    case decided
  }

  /// Made before it is handed over, and unique in the log: handed over twice it enters once.
  package let id: MessageID
  package let roomID: RoomID
  /// The room's channel as clients name it.
  package let channelID: String
  /// Nil where the server itself writes.
  package let from: UserID?
  /// Never `erased` or `unknown`, which nobody writes.
  package let body: EntryBody
  /// What the sender calls it; the key of a retry is (room, sender, client id).
  package let clientID: String?
  package let access: Access
  /// Which socket hears of the outcome; nil where whoever appends takes it from the appender.
  package let origin: Origin?

  package init(
    id: MessageID = .make(), roomID: RoomID, channelID: String, from: UserID?, body: EntryBody,
    clientID: String? = nil, access: Access, origin: Origin? = nil
  ) {
    self.id = id
    self.roomID = roomID
    self.channelID = channelID
    self.from = from
    self.body = body
    self.clientID = clientID
    self.access = access
    self.origin = origin
  }

  /// The same draft, checked again.
  package func with(_ access: Access) -> Draft {
    Draft(
      id: id, roomID: roomID, channelID: channelID, from: from, body: body, clientID: clientID,
      access: access, origin: origin)
  }

  /// What it takes of memory while it waits, about.
  package var cost: Int { Self.overheadBytes + body.contentBytes + (clientID?.utf8.count ?? 0) }

  private static let overheadBytes = 300
}
