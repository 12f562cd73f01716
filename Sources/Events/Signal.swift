package import Basics

/// Something that is worth nothing a moment later: that someone types, is here, has read. Not in any log; whoever
/// misses it never looks for it.
package struct Signal: Sendable, Equatable {
  /// Which nodes are to hear of it.
  package enum Audience: Sendable, Equatable {
    /// Those that serve this room.
    case room(RoomID)
    /// All of them.
    case everyone
  }

  package let audience: Audience
  /// What it is, in the words of the feature that sends it: `typing`. Whoever does not know it drops it.
  package let kind: String
  /// What it says; its meaning is the feature's.
  package let content: [UInt8]

  package init(to audience: Audience, kind: String, content: [UInt8]) {
    self.audience = audience
    self.kind = kind
    self.content = content
  }
}
