internal import Basics
internal import Synchronization

/// Tracks how old this node's knowledge of sessions, memberships and rooms is, and whether it may still act on it.
///
/// If several nodes share a database, another node may have revoked a right without this one having heard of it. So
/// each node compares its knowledge with the database a few times a second. If the last successful comparison began
/// too long ago (the node was stopped, or the database is unreachable), nothing is delivered or accepted until the
/// next one.
package final class Freshness: Sendable {
  /// The age of the last comparison, in milliseconds, from which on it is too old. Slightly less than the second
  /// within which a revocation must take effect.
  package static let maximumAgeMilliseconds: Int64 = 900

  private let isShared: Bool
  private let comparedAt: Atomic<Int64>

  /// `isShared` tells whether other nodes use the same database. A single node learns of every change itself and is
  /// always fresh.
  package init(isShared: Bool) {
    self.isShared = isShared
    comparedAt = Atomic(UptimeClock.milliseconds)
  }

  /// Notes that the comparison that began at this time of `UptimeClock` succeeded and was applied.
  package func compared(at begin: Int64) { comparedAt.store(begin, ordering: .releasing) }

  package var isFresh: Bool { millisecondsLeft >= 0 }

  /// How long the present knowledge will be recent enough; negative if it is too old already.
  package var millisecondsLeft: Int64 {
    guard isShared else { return Self.maximumAgeMilliseconds }
    let age = UptimeClock.milliseconds - comparedAt.load(ordering: .acquiring)
    return Self.maximumAgeMilliseconds - max(0, age)
  }
}
