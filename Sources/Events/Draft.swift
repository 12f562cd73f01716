package import Basics

/// An entry that is not in the log yet. Its form was checked, and it has its final id, but it has no seq.
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
    /// Whether the writer manages the room. Only asked for deletions, which authors and managers may write.
    package let isManager: Bool

    package init(
      accessVersion: Int64, affiliationsVersion: Int64? = nil, session: SessionID? = nil,
      isManager: Bool = false
    ) {
      self.accessVersion = accessVersion
      self.affiliationsVersion = affiliationsVersion
      self.session = session
      self.isManager = isManager
    }
  }

  /// The result of the check whether the writer may write.
  package enum Access: Sendable, Equatable {
    case granted(Grant)
    /// The writer may not write, for this reason. The draft is not appended. If it is a retry of an entry that is in
    /// the log already, that entry is acknowledged.
    case denied(ErrorCode)
    /// The transaction that appends the draft has checked the permission itself, while it held the lock on the room's
    /// head.
    case decided

    /// Whether the writer may do what managers of the room may.
    package var isManaging: Bool {
      switch self {
      case .granted(let grant): grant.isManager
      case .denied: false
      case .decided: true
      }
    }
  }

  /// The id of the entry. It is made before the draft is submitted and is unique in the log, so a draft that is
  /// submitted twice is appended once.
  package let id: MessageID
  package let roomID: RoomID
  /// The entry's `channel_id` in frames.
  package let channelID: String
  /// The author; nil if it is the server itself.
  package let from: UserID?
  /// The one person whom the entry is for, in a dialog of a team; nil for everyone in the room.
  package let to: UserID?
  /// The content. Never `erased` or `unknown`, which cannot be written.
  package let body: EntryBody
  /// The `client_id` that the client chose for the message. Room, sender and `client_id` are the idempotency key by
  /// which a retry is recognised.
  package let clientID: String?
  package let access: Access
  /// The socket that is told the outcome; nil if the code that appends the draft uses the outcome itself.
  package let origin: Origin?

  package init(
    id: MessageID = .make(), roomID: RoomID, channelID: String, from: UserID?,
    to: UserID? = nil, body: EntryBody, clientID: String? = nil, access: Access,
    origin: Origin? = nil
  ) {
    self.id = id
    self.roomID = roomID
    self.channelID = channelID
    self.from = from
    self.to = to
    self.body = body
    self.clientID = clientID
    self.access = access
    self.origin = origin
  }

  /// Returns the same draft with the result of a new check of access.
  package func with(_ access: Access) -> Draft {
    Draft(
      id: id, roomID: roomID, channelID: channelID, from: from, to: to, body: body,
      clientID: clientID, access: access, origin: origin)
  }

  /// The approximate memory that the draft takes while it waits, in bytes.
  package var cost: Int { Self.overheadBytes + body.contentBytes + (clientID?.utf8.count ?? 0) }

  private static let overheadBytes = 300
}
