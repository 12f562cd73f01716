internal import Basics

/// Whether one event loop may deliver and take in: only while what it knows of who may hear what is
/// recent. On the loop only.
///
/// Several nodes on one database compare what they know with it a few times a second. A node that was
/// stopped, or that lost the database, finds its gate closed when it goes on: what it would deliver waits
/// until the next comparison has been applied on this loop, and what that took away is never sent.
package final class DeliveryGate {
  private let maximumAge: Int64?
  private var comparedAt: Int64

  /// `maximumAgeMilliseconds`: how old the last comparison may be; nil where the node is alone, and the
  /// gate always open.
  package init(maximumAgeMilliseconds: Int64?) {
    maximumAge = maximumAgeMilliseconds
    comparedAt = UptimeClock.milliseconds
  }

  package var isOpen: Bool {
    guard let maximumAge else { return true }
    return UptimeClock.milliseconds - comparedAt <= maximumAge
  }

  /// What a comparison found that began at this moment of `UptimeClock` has been applied.
  package func compared(at begin: Int64) { comparedAt = max(comparedAt, begin) }
}
