package import Basics

/// Something that is worthless a moment later: somebody is typing, is present, or has read something. It is in no
/// log, and a node that misses it never looks for it.
package struct Signal: Sendable, Equatable {
  /// Which nodes it is for.
  package enum Audience: Sendable, Equatable {
    /// The nodes that serve this room.
    case room(RoomID)
    /// All nodes.
    case everyone
  }

  package let audience: Audience
  /// The kind, in the words of the feature that sends it, such as `typing`. Nodes drop kinds that they do not know.
  package let kind: String
  /// The content. Only the feature knows its format.
  package let content: [UInt8]

  package init(to audience: Audience, kind: String, content: [UInt8]) {
    self.audience = audience
    self.kind = kind
    self.content = content
  }
}
