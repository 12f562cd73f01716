internal import Basics

/// Whether one event loop may deliver and take in: only while what it knows of who may hear what is
/// recent. On the loop only.
///
/// Several nodes on one database compare what they know with it a few times a second. A node that was
/// stopped, or that lost the database, finds its gate closed when it goes on: what it would deliver waits
/// until the next comparison has been applied on this loop, and what that took away is never sent.
package final class DeliveryGate {
  private let maximumAge: Int64?
  private let clock: () -> Int64
  private var comparedAt: Int64

  /// `maximumAgeMilliseconds`: how old the last comparison may be; nil where the node is alone, and the
  /// gate always open. `clock` is `UptimeClock.milliseconds`.
  package init(
    maximumAgeMilliseconds: Int64?, clock: @escaping () -> Int64 = { UptimeClock.milliseconds }
  ) {
    maximumAge = maximumAgeMilliseconds
    self.clock = clock
    comparedAt = clock()
  }

  package var isOpen: Bool {
    guard let maximumAge else { return true }
    return clock() - comparedAt <= maximumAge
  }

  /// What a comparison found that began at this moment of `UptimeClock` has been applied.
  package func compared(at begin: Int64) { comparedAt = max(comparedAt, begin) }
}
