/// A timer wheel: finds which of many things are due without looking at the others, by a ring of slots of a quarter
/// of a second each. A value; the caller provides the clock (`Monotonic.milliseconds`).
///
/// Things are named by an id and store their own `Due`. A thing that is moved to an earlier time leaves its old entry
/// behind, which is ignored when its slot comes.
struct TimerWheel<ID: Hashable> {
  /// The slot that a thing waits in.
  struct Due: Equatable {
    fileprivate var slot: Int64?
    static var none: Due { Due(slot: nil) }
  }

  static var slotMilliseconds: Int64 { 250 }
  /// Something due after the last slot is looked at there, and set again.
  private static var slotCount: Int { 256 }

  private var slots: [[ID]] = Array(repeating: [], count: Self.slotCount)
  /// The last slot that was taken.
  private var current: Int64

  init(now: Int64) { current = now / Self.slotMilliseconds }

  /// Takes `id` at this time or up to one slot later, unless it is due earlier already.
  mutating func set(_ id: ID, at moment: Int64, _ due: inout Due) {
    let wanted = (moment + Self.slotMilliseconds - 1) / Self.slotMilliseconds
    let slot = min(max(wanted, current + 1), current + Int64(Self.slotCount) - 1)
    if let known = due.slot, known <= slot { return }
    due.slot = slot
    slots[Int(slot % Int64(Self.slotCount))].append(id)
  }

  /// Calls `body` for each id whose slot has come, with that slot; `isDue` tells whether the id still waits there.
  mutating func take(now: Int64, _ body: (ID, _ isDue: (inout Due) -> Bool) -> Void) {
    let last = now / Self.slotMilliseconds
    // After a long pause every slot has come, once.
    current = max(current, last - Int64(Self.slotCount))
    while current < last {
      current += 1
      let slot = current
      let ids = slots[Int(slot % Int64(Self.slotCount))]
      slots[Int(slot % Int64(Self.slotCount))] = []
      for id in ids {
        body(id) { due in
          // Also true for slots that were skipped in a pause.
          guard let known = due.slot, known <= slot else { return false }
          due.slot = nil
          return true
        }
      }
    }
  }
}
