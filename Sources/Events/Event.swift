package import Access
package import Basics

/// Something that happened on this node or on another. Live delivery, acknowledgements and revocation all follow from
/// one stream of events, which is in commit order (`EventStream`).
package enum Event: Sendable {
  /// An entry was committed to its room's log.
  case entry(Entry, origin: Origin?)
  /// Access was revoked or changed.
  case access(AccessChange)
  /// The outcome of a draft that made no new entry. Stays on its node.
  case receipt(Receipt)
  /// This node has compared its knowledge with the database. The comparison began at this time of `UptimeClock`. Its
  /// findings are earlier in the stream than this event. Stays on its node.
  case compared(at: Int64)
  /// The log was replaced: a backup was restored while servers were running. Cursors of the old log are invalid.
  /// Stays on its node, because every node detects it itself.
  case epochChanged(String)
  /// Something that may be lost, because it is outdated a moment later.
  case signal(Signal)
  /// Events of other nodes in these shards may have been lost. The heads of their rooms must be compared with the
  /// database. Stays on its node.
  case missed(Set<Shard>)

  /// Whether the event is sent to other nodes.
  package var isShared: Bool {
    switch self {
    case .entry, .access, .signal: true
    case .receipt, .compared, .epochChanged, .missed: false
    }
  }

  /// The room whose following nodes get the event; nil if all nodes get it.
  package var room: RoomID? {
    switch self {
    case .entry(let entry, _): entry.roomID
    case .signal(let signal): if case .room(let room) = signal.audience { room } else { nil }
    // All nodes get these, even if they concern a room: a node where a user gains access to a room may not follow that
    // room yet.
    case .access, .receipt, .compared, .epochChanged, .missed: nil
    }
  }
}

/// The identity of a node among those that share a database. Made anew when the node starts.
package struct NodeID: Sendable, Hashable {
  package let value: UInt64

  package init(_ value: UInt64) { self.value = value }
}

/// The socket that a draft came from. Only the loop that made it can find the socket.
package struct Origin: Sendable, Equatable {
  package let node: NodeID
  /// The index of the event loop; `requests` if the draft came by a request instead of a socket.
  package let loop: Int
  /// Identifies the socket on that loop, or the request; never reused.
  package let socket: UInt64

  package static let requests = -1

  package init(node: NodeID, loop: Int, socket: UInt64) {
    self.node = node
    self.loop = loop
    self.socket = socket
  }
}

/// The outcome of a draft that made no new entry.
package struct Receipt: Sendable {
  package enum Outcome: Sendable {
    /// The same message is in the log already, as this entry. Acknowledge it.
    case known(Entry)
    /// The sender has used the `client_id` in this room for a different message.
    case conflict
    /// Access has changed since it was checked. Check again and resubmit.
    case stale
    /// The sender may not write, and the message is not in the log.
    case denied(ErrorCode)
    /// The message could not be stored.
    case unavailable
  }

  package let draft: Draft
  package let outcome: Outcome

  package init(_ draft: Draft, _ outcome: Outcome) {
    self.draft = draft
    self.outcome = outcome
  }
}
