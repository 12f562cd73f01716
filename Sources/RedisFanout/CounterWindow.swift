/// Which of a node's frames in one channel have come: each counts once, and what is missing is found. A value;
/// times are milliseconds of whoever calls.
struct CounterWindow {
  /// The highest counter that came or was heard of.
  private(set) var highest: UInt64
  /// Counters below that which have not come, and since when that is known.
  private var missing: [UInt64: Int64] = [:]
  /// Whether more was missing than is kept.
  private var isBeyond = false

  /// Frames may come out of order by as many.
  private static let maximumMissing: UInt64 = 256

  /// Everything up to `highest` counts as seen.
  init(highest: UInt64) { self.highest = highest }

  var isWhole: Bool { missing.isEmpty && !isBeyond }

  /// A frame came. False where it counts no more: it came before, or too late.
  mutating func take(_ counter: UInt64, now: Int64) -> Bool {
    guard counter > highest else { return missing.removeValue(forKey: counter) != nil }
    noteMissing(through: counter - 1, now)
    highest = counter
    return true
  }

  /// The sender says that it has sent up to here.
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

  /// Gives up what has been missing since `moment` or before; true where there was some, and where more was missing
  /// than is kept.
  mutating func expire(missingSince moment: Int64) -> Bool {
    let before = missing.count
    missing = missing.filter { $0.value > moment }
    defer { isBeyond = false }
    return isBeyond || missing.count < before
  }
}
