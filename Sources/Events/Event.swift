package import Access
package import Basics

/// What happened, in the order of commits: the one stream that live delivery, acknowledgements and
/// revocation come from.
package enum Event: Sendable {
  /// An entry is in its room's log.
  case entry(Entry, origin: Origin?)
  /// Access was taken or changed.
  case access(AccessChange)
  /// The answer to a draft that made no new entry. Stays on its node.
  case receipt(Receipt)
  /// This node has compared what it knows with the database: the comparison began at this moment of
  /// `UptimeClock`, and what it found stands before this in the stream. Stays on its node.
  case compared(at: Int64)
  /// The log was replaced: a backup was restored under its servers. No cursor of the old one counts.
  /// Stays on its node, since every node finds it by itself.
  case epochChanged(String)
  /// Something that is worth nothing a moment later.
  case signal(Signal)
  /// Events of other nodes in these shards may have been lost: the heads of their rooms are to be compared with
  /// the database. Stays on its node.
  case missed(Set<Shard>)

  /// Whether other nodes are to hear of it.
  package var isShared: Bool {
    switch self {
    case .entry, .access, .signal: true
    case .receipt, .compared, .epochChanged, .missed: false
    }
  }

  /// The room whose followers it is for; nil where it is for all nodes.
  package var room: RoomID? {
    switch self {
    case .entry(let entry, _): entry.roomID
    case .signal(let signal): if case .room(let room) = signal.audience { room } else { nil }
    // Also those of rooms: whoever may read a room from now on need not have followed it.
    case .access, .receipt, .compared, .epochChanged, .missed: nil
    }
  }
}

/// Names a node among those that share a database; made at its start.
package struct NodeID: Sendable, Hashable {
  package let value: UInt64

  package init(_ value: UInt64) { self.value = value }
}

/// The socket that a draft came by. Opaque to all but the loop that made it.
package struct Origin: Sendable, Equatable {
  package let node: NodeID
  /// Index of the event loop.
  package let loop: Int
  /// Names the socket on that loop, never reused.
  package let socket: UInt64

  package init(node: NodeID, loop: Int, socket: UInt64) {
    self.node = node
    self.loop = loop
    self.socket = socket
  }
}

/// How a draft ended that made no new entry.
package struct Receipt: Sendable {
  package enum Outcome: Sendable {
    /// The same is in the log already: acknowledge it as it was.
    case known(Entry)
    /// The client id names another message.
    case conflict
    /// Access changed since it was checked: check again and submit again.
    case stale
    /// The sender may not write, and the message is not known.
    case denied(ErrorCode)
    /// It could not be stored.
    case unavailable
  }

  package let draft: Draft
  package let outcome: Outcome

  package init(_ draft: Draft, _ outcome: Outcome) {
    self.draft = draft
    self.outcome = outcome
  }
}
