internal import Basics
internal import Synchronization

/// The age of this node's knowledge of sessions, memberships and rooms, by which the node decides whether it may still
/// act on it.
///
/// If several nodes share a database, another node may have revoked a right without this one having heard of it. So
/// each node compares its knowledge with the database a few times a second. If the last successful comparison began
/// too long ago (the process was stopped, or the database is unreachable), this node delivers and accepts nothing
/// until the next comparison succeeds.
package final class Freshness: Sendable {
  /// The greatest age of the last comparison, in milliseconds, at which this node may still act on its knowledge.
  /// Slightly less than the second within which a revocation must take effect.
  package static let maximumAgeMilliseconds: Int64 = 900

  private let isShared: Bool
  private let comparedAt: Atomic<Int64>

  /// `isShared` tells whether other nodes use the same database. A single node learns of every change itself and is
  /// always fresh.
  package init(isShared: Bool) {
    self.isShared = isShared
    comparedAt = Atomic(UptimeClock.milliseconds)
  }

  /// Records that a comparison succeeded and its findings were applied. `begin` is when it began, by `UptimeClock`.
  package func compared(at begin: Int64) { comparedAt.store(begin, ordering: .releasing) }

  /// Whether this node's knowledge is recent enough to act on.
  package var isFresh: Bool { millisecondsLeft >= 0 }

  /// The milliseconds for which the present knowledge remains recent enough; negative if it is too old already.
  package var millisecondsLeft: Int64 {
    guard isShared else { return Self.maximumAgeMilliseconds }
    let age = UptimeClock.milliseconds - comparedAt.load(ordering: .acquiring)
    return Self.maximumAgeMilliseconds - max(0, age)
  }
}
