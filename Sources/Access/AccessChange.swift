package import Basics

/// A change of what somebody may do, as it travels in the event stream.
///
/// It only names what to read again. A node that misses a change finds it in its next comparison with the database.
package enum AccessChange: Sendable, Equatable {
  /// A session ended: log-out, revocation, or reuse of its refresh token.
  case sessionEnded(SessionID)
  /// An account's memberships changed. Their version is now at least this.
  case affiliationsChanged(UserID, version: Int64)
  /// A room or its rules changed. Its access version is now at least this.
  case roomChanged(RoomID, version: Int64)
  /// A room's rule waits for the answer of this person, or of those who may answer for this entity.
  case invited(RoomID, subject: UUID, version: Int64)
  /// A room was deleted.
  case roomDeleted(RoomID, version: Int64)
}
