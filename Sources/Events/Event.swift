package import Access
package import Basics

/// What happened, in the order of commits: the one stream that live delivery, acknowledgements and
/// revocation come from.
package enum Event: Sendable {
  /// A message entered its room's log.
  case entry(Entry, origin: Origin?)
  /// Access was taken or changed.
  case access(AccessChange)
  /// The answer to a submission that made no new entry. Stays on its node.
  case receipt(Receipt)
}

/// The socket that a message came by, on this node. Opaque to all but the loop that made it.
package struct Origin: Sendable, Equatable {
  /// Index of the event loop.
  package let loop: Int
  /// Names the socket on that loop, never reused.
  package let socket: UInt64

  package init(loop: Int, socket: UInt64) {
    self.loop = loop
    self.socket = socket
  }
}

/// How a draft ended that made no new entry.
package struct Receipt: Sendable {
  package enum Outcome: Sendable {
    /// The same message is in the log already: acknowledge it as it was.
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
