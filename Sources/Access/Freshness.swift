internal import Basics
internal import Synchronization

/// How old what this node knows of sessions, memberships and rooms may be.
///
/// Where several nodes share a database, one of them may have taken a right away that this one has not
/// heard of yet. Each compares with the database a few times a second; when the last comparison that
/// succeeded began too long ago (the node was stopped, the database is gone), nothing is delivered and
/// nothing accepted until the next one.
package final class Freshness: Sendable {
  /// Milliseconds since the last comparison began, beyond which it is too old. A little less than the
  /// second within which a revocation counts.
  package static let maximumAgeMilliseconds: Int64 = 900

  private let isShared: Bool
  private let comparedAt: Atomic<Int64>

  /// `isShared`: whether other nodes serve from the same data. Alone a node hears of everything itself,
  /// and is always fresh.
  package init(isShared: Bool) {
    self.isShared = isShared
    comparedAt = Atomic(UptimeClock.milliseconds)
  }

  /// A comparison that began at this moment of `UptimeClock` succeeded, and what it found is known.
  package func compared(at begin: Int64) { comparedAt.store(begin, ordering: .releasing) }

  package var isFresh: Bool { millisecondsLeft >= 0 }

  /// How long what is known now will be recent enough; below 0 where it is too old already.
  package var millisecondsLeft: Int64 {
    guard isShared else { return Self.maximumAgeMilliseconds }
    let age = UptimeClock.milliseconds - comparedAt.load(ordering: .acquiring)
    return Self.maximumAgeMilliseconds - max(0, age)
  }
}
