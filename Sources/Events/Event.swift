package import Access
package import Basics

/// Something that happened, in commit order. Live delivery, acknowledgements and revocation all come from this one
/// stream.
package enum Event: Sendable {
  /// An entry was committed to its room's log.
  case entry(Entry, origin: Origin?)
  /// Access was revoked or changed.
  case access(AccessChange)
  /// The outcome of a draft that made no new entry. Stays on its node.
  case receipt(Receipt)
  /// This node has compared its knowledge with the database. The comparison began at this time of `UptimeClock`; its
  /// findings precede this event in the stream. Stays on its node.
  case compared(at: Int64)
  /// The log was replaced: a backup was restored while servers were running. Cursors of the old log are invalid.
  /// Stays on its node, because every node detects it itself.
  case epochChanged(String)
  /// Something that is worthless a moment later.
  case signal(Signal)
  /// Events of other nodes in these shards may have been lost. The heads of their rooms must be compared with the
  /// database. Stays on its node.
  case missed(Set<Shard>)

  /// Whether other nodes must learn of it.
  package var isShared: Bool {
    switch self {
    case .entry, .access, .signal: true
    case .receipt, .compared, .epochChanged, .missed: false
    }
  }

  /// The room whose followers it is for; nil if it is for all nodes.
  package var room: RoomID? {
    switch self {
    case .entry(let entry, _): entry.roomID
    case .signal(let signal): if case .room(let room) = signal.audience { room } else { nil }
    // These are for all nodes even if they concern a room: a node where somebody gains access to a room need not have
    // followed it.
    case .access, .receipt, .compared, .epochChanged, .missed: nil
    }
  }
}

/// Identifies a node among those that share a database. Made when the node starts.
package struct NodeID: Sendable, Hashable {
  package let value: UInt64

  package init(_ value: UInt64) { self.value = value }
}

/// The socket that a draft came from. Meaningful only to the loop that made it.
package struct Origin: Sendable, Equatable {
  package let node: NodeID
  /// The index of the event loop.
  package let loop: Int
  /// Identifies the socket on that loop; never reused.
  package let socket: UInt64

  package init(node: NodeID, loop: Int, socket: UInt64) {
    self.node = node
    self.loop = loop
    self.socket = socket
  }
}

/// The outcome of a draft that made no new entry.
package struct Receipt: Sendable {
  package enum Outcome: Sendable {
    /// The same message is in the log already. Acknowledge that one.
    case known(Entry)
    /// The client id belongs to a different message.
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
