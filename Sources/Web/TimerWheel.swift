/// A timer wheel: a ring of slots of a quarter of a second each, which finds the timers that are due without looking
/// at the others. A value; the caller provides the clock (`Monotonic.milliseconds`).
///
/// A timer is identified by an id, and the caller stores its `Due`. A timer that is moved to an earlier time leaves
/// its old entry behind, which is ignored when its slot comes.
struct TimerWheel<ID: Hashable> {
  /// The slot that a timer waits in; `none` if it is not set.
  struct Due: Equatable {
    fileprivate var slot: Int64?
    static var none: Due { Due(slot: nil) }
  }

  static var slotMilliseconds: Int64 { 250 }
  /// The number of slots, which cover 64 seconds. A timer that is due later fires at the last slot, and its owner sets
  /// it again.
  private static var slotCount: Int { 256 }

  private var slots: [[ID]] = Array(repeating: [], count: Self.slotCount)
  /// The number of the last slot that was taken. Slots are numbered from the clock's zero.
  private var current: Int64

  init(now: Int64) { current = now / Self.slotMilliseconds }

  /// Sets the timer `id` to fire at this time or up to one slot later. Does nothing if it is set to an earlier time. A
  /// time beyond the wheel's last slot fires at the last slot.
  mutating func set(_ id: ID, at moment: Int64, _ due: inout Due) {
    let wanted = (moment + Self.slotMilliseconds - 1) / Self.slotMilliseconds
    let slot = min(max(wanted, current + 1), current + Int64(Self.slotCount) - 1)
    if let known = due.slot, known <= slot { return }
    due.slot = slot
    slots[Int(slot % Int64(Self.slotCount))].append(id)
  }

  /// Calls `body` for each entry whose slot has come. `body` calls `isDue` with the timer's `Due`. `isDue` returns
  /// whether the timer has really fired, and then also resets the `Due`; it returns false for an entry that was left
  /// behind.
  mutating func take(now: Int64, _ body: (ID, _ isDue: (inout Due) -> Bool) -> Void) {
    let last = now / Self.slotMilliseconds
    // After a pause longer than the whole ring, each slot is taken once.
    current = max(current, last - Int64(Self.slotCount))
    while current < last {
      current += 1
      let slot = current
      let ids = slots[Int(slot % Int64(Self.slotCount))]
      slots[Int(slot % Int64(Self.slotCount))] = []
      for id in ids {
        body(id) { due in
          // `<=` rather than `==`, because a pause may have skipped the timer's own slot number.
          guard let known = due.slot, known <= slot else { return false }
          due.slot = nil
          return true
        }
      }
    }
  }
}
