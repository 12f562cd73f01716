package import Basics

/// A change of access rights, as the event stream carries it.
///
/// It does not contain the new rights, only what has to be read again. A node that misses a change finds it in its
/// next comparison with the database.
package enum AccessChange: Sendable, Equatable {
  /// A session ended: log-out, revocation, or reuse of its refresh token.
  case sessionEnded(SessionID)
  /// An account's memberships changed. Their version is now at least this.
  case affiliationsChanged(UserID, version: Int64)
  /// A room or its rules changed. Its access version is now at least this.
  case roomChanged(RoomID, version: Int64)
  /// A rule of a room is waiting to be accepted by this person, or by a manager of this entity. The room's access
  /// version is now at least this.
  case invited(RoomID, subject: UUID, version: Int64)
  /// A room was deleted, which raised its access version to this.
  case roomDeleted(RoomID, version: Int64)
}
