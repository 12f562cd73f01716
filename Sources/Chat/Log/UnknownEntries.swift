package import Basics
internal import Events
internal import Synchronization

/// The counter of entries that this node cannot show. It also logs them, at most one per second.
package final class UnknownEntries: Sendable {
  private let log: Log
  private let count: Counter
  private let loggedAt = Mutex<Int64>(.min)

  private static let everyMilliseconds: Int64 = 1000

  package init(log: Log, metrics: Metrics) {
    self.log = log
    count = metrics.counter(
      "martlet_unknown_entries_total",
      "Entries read from the log that this node cannot show: lost, or of a newer release.")
  }

  func report(_ entries: [Entry]) {
    for entry in entries {
      guard case .unknown(let code) = entry.body else { continue }
      count.add()
      let mayLog = loggedAt.withLock { loggedAt in
        let now = Monotonic.milliseconds
        guard loggedAt == .min || now - loggedAt >= Self.everyMilliseconds else { return false }
        loggedAt = now
        return true
      }
      guard mayLog else { continue }
      log.warning(
        "entry_unknown",
        ["room_id": .init(entry.roomID), "seq": .init(Int(entry.seq)), "code": .init(Int(code))])
    }
  }
}
