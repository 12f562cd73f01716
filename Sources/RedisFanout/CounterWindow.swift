/// A replay window for one node's frames in one channel: it accepts each counter once, and detects gaps. A value; the
/// caller provides the clock, in milliseconds.
struct CounterWindow {
  /// The highest counter that has arrived or was announced.
  private(set) var highest: UInt64
  /// The counters up to `highest` that have not arrived, with the time at which the gap was noticed.
  private var missing: [UInt64: Int64] = [:]
  /// Whether counters were missing that are not tracked, because there were too many. Reset by `expire`.
  private var isBeyond = false

  /// The most missing counters that are tracked. So frames may arrive out of order by at most this many.
  private static let maximumMissing: UInt64 = 256

  /// Makes a window in which all frames up to `highest` count as arrived.
  init(highest: UInt64) { self.highest = highest }

  var isWhole: Bool { missing.isEmpty && !isBeyond }

  /// Handles a frame that arrived. Returns false if it must be ignored, because it has arrived before or too late.
  mutating func take(_ counter: UInt64, now: Int64) -> Bool {
    guard counter > highest else { return missing.removeValue(forKey: counter) != nil }
    noteMissing(through: counter - 1, now)
    highest = counter
    return true
  }

  /// Handles an announcement that the sender has counted up to this number. Frames up to it that have not arrived are
  /// missing.
  mutating func reach(_ counter: UInt64, now: Int64) {
    guard counter > highest else { return }
    noteMissing(through: counter, now)
    highest = counter
  }

  private mutating func noteMissing(through last: UInt64, _ now: Int64) {
    guard last > highest else { return }
    var first = highest + 1
    if last - first >= Self.maximumMissing {
      isBeyond = true
      missing = [:]
      first = last - Self.maximumMissing + 1
    }
    for counter in first...last { missing[counter] = now }
    guard missing.count > Self.maximumMissing else { return }
    isBeyond = true
    missing = [:]
  }

  /// Gives up the frames that have been missing since `moment` or before. Returns whether any frame was lost: one of
  /// these, or one that was not tracked.
  mutating func expire(missingSince moment: Int64) -> Bool {
    let before = missing.count
    missing = missing.filter { $0.value > moment }
    defer { isBeyond = false }
    return isBeyond || missing.count < before
  }
}
