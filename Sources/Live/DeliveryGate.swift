internal import Basics

/// The gate of one event loop for delivering and accepting messages. It is open only while the loop's knowledge of who
/// may read what is recent. Used on the loop only.
///
/// Several nodes on one database compare their knowledge with it a few times a second. When a node was stopped or had
/// lost the database and then continues, its gate is closed. Delivery waits until the next comparison has been
/// applied on this loop, so what that comparison takes away is never sent.
package final class DeliveryGate {
  private let maximumAge: Int64?
  private let clock: () -> Int64
  private var comparedAt: Int64

  /// `maximumAgeMilliseconds` is how old the last comparison may be; nil if the node is alone, which keeps the gate
  /// always open. `clock` is `UptimeClock.milliseconds`.
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

  /// Notes that the findings of the comparison that began at this time of `UptimeClock` have been applied.
  package func compared(at begin: Int64) { comparedAt = max(comparedAt, begin) }
}
