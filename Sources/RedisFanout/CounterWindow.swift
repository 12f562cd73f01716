/// Tracks which of a node's frames in one channel have arrived: each counts once, and gaps are detected. A value;
/// times are the caller's milliseconds.
struct CounterWindow {
  /// The highest counter that has arrived or was announced.
  private(set) var highest: UInt64
  /// Lower counters that have not arrived, with the time since when that is known.
  private var missing: [UInt64: Int64] = [:]
  /// Whether more was missing than is tracked.
  private var isBeyond = false

  /// The largest gap that is tracked; frames may arrive out of order by that many.
  private static let maximumMissing: UInt64 = 256

  /// Everything up to `highest` counts as arrived.
  init(highest: UInt64) { self.highest = highest }

  var isWhole: Bool { missing.isEmpty && !isBeyond }

  /// A frame arrived. Returns false if it does not count, because it arrived before, or too late.
  mutating func take(_ counter: UInt64, now: Int64) -> Bool {
    guard counter > highest else { return missing.removeValue(forKey: counter) != nil }
    noteMissing(through: counter - 1, now)
    highest = counter
    return true
  }

  /// The sender announces that it has sent frames up to this counter.
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

  /// Gives up what has been missing since `moment` or before. Returns true if there was any, or if more was missing
  /// than is tracked.
  mutating func expire(missingSince moment: Int64) -> Bool {
    let before = missing.count
    missing = missing.filter { $0.value > moment }
    defer { isBeyond = false }
    return isBeyond || missing.count < before
  }
}
