package import Basics

/// Something that changed who may do what, as it travels in the stream of events.
///
/// It only says what to look at again; whoever loses one finds the same by comparing with the
/// database every so often.
package enum AccessChange: Sendable, Equatable {
  /// One session ended: log-out, revocation, reuse of its refresh token.
  case sessionEnded(SessionID)
  /// What an account belongs to changed; the version is now at least this.
  case affiliationsChanged(UserID, version: Int64)
  /// A room's rules or the room itself changed; its access version is now at least this.
  case roomChanged(RoomID, version: Int64)
  /// A rule of a room waits for the answer of this person, or of those who answer for this entity.
  case invited(RoomID, subject: UUID, version: Int64)
  /// A room is gone.
  case roomDeleted(RoomID, version: Int64)
}
