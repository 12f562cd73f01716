package import Basics

/// An ephemeral event, which is outdated a moment later: a user is typing, is present, or has read something. Signals
/// are in no log, and a node that misses a signal never looks for it.
package struct Signal: Sendable, Equatable {
  /// The nodes that a signal is for.
  package enum Audience: Sendable, Equatable {
    /// The nodes that serve this room.
    case room(RoomID)
    /// All nodes.
    case everyone
  }

  package let audience: Audience
  /// The kind, named by the feature that sends it, such as `typing`. Nodes drop signals of kinds that they do not know.
  package let kind: String
  /// The content. Only the feature knows its format.
  package let content: [UInt8]

  package init(to audience: Audience, kind: String, content: [UInt8]) {
    self.audience = audience
    self.kind = kind
    self.content = content
  }
}
