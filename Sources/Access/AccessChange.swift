package import Basics

/// Something that changed who may do what, as it travels in the stream of events.
///
/// It only says what to look at again; whoever loses one finds the same by comparing with the
/// database every so often.
package enum AccessChange: Sendable, Equatable {
  /// One session ended: log-out, revocation, reuse of its refresh token.
  case sessionEnded(SessionID)
  /// A room's rules or the room itself changed; its access version is now at least this.
  case roomChanged(RoomID, version: Int64)
  /// A room is gone.
  case roomDeleted(RoomID, version: Int64)
}
