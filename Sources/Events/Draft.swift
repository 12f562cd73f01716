package import Basics

/// An entry on its way into the log. Its form was checked, and it has its final id.
///
/// Immutable and shared by reference, because it is passed on several times before it is in the log.
package final class Draft: Sendable {
  /// The versions on which the writer's permission was based when it was checked. The log verifies inside its commit
  /// that they still hold.
  package struct Grant: Sendable, Equatable {
    /// The access version of the room.
    package let accessVersion: Int64
    /// The version of the account's memberships; nil if the permission does not depend on them.
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
    /// The writer may not write, for this reason. The draft only asks for the ack of an entry that may be in the log
    /// already.
    case denied(ErrorCode)
    /// The transaction that appends the draft has decided itself, while holding the room's head.
    case decided
  }

  /// Made before the draft is submitted, and unique in the log: a draft that is submitted twice enters once.
  package let id: MessageID
  package let roomID: RoomID
  /// The room's channel as clients name it.
  package let channelID: String
  /// Nil if the server itself is the author.
  package let from: UserID?
  /// Never `erased` or `unknown`, which cannot be written.
  package let body: EntryBody
  /// The sender's name for the message. (room, sender, client id) is the idempotency key of a retry.
  package let clientID: String?
  package let access: Access
  /// The socket that is told the outcome; nil if the appender's caller takes it from the appender.
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

  /// The same draft with a new check of access.
  package func with(_ access: Access) -> Draft {
    Draft(
      id: id, roomID: roomID, channelID: channelID, from: from, body: body, clientID: clientID,
      access: access, origin: origin)
  }

  /// The approximate memory that the draft takes while it waits, in bytes.
  package var cost: Int { Self.overheadBytes + body.contentBytes + (clientID?.utf8.count ?? 0) }

  private static let overheadBytes = 300
}
