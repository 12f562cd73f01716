import TestSupport
import Testing

@testable import Web

/// Compares a wheel with a list that is searched each time.
@Suite struct TimerWheelTests {
  @Test(arguments: 1...50)
  func `each is taken once, at its moment or up to a slot later`(seed: UInt64) {
    var random = SeededRandom(seed: seed)
    func pick(_ count: Int) -> Int { Int(random.next() % UInt64(count)) }
    var now: Int64 = 1_000_000 + Int64(pick(1000))
    var wheel = TimerWheel<Int>(now: now)
    var dues = Array(repeating: TimerWheel<Int>.Due.none, count: 20)
    /// The earliest time that each timer was set to since it last fired.
    var wanted: [Int: Int64] = [:]
    for _ in 0..<500 {
      if pick(3) > 0 {
        let id = pick(dues.count)
        // Include times that have passed, and some beyond the wheel's last slot.
        let moment = now - 300 + Int64(pick(pick(5) == 0 ? 200_000 : 5000))
        wheel.set(id, at: moment, &dues[id])
        wanted[id] = min(wanted[id] ?? .max, moment)
      } else {
        now += Int64(pick(pick(20) == 0 ? 200_000 : 1000))
        var taken: [Int] = []
        wheel.take(now: now) { id, isDue in if isDue(&dues[id]) { taken.append(id) } }
        #expect(Set(taken).count == taken.count)
        for id in taken {
          // A timer that is due beyond the wheel's last slot fires at the last slot, and must be set again.
          if let moment = wanted.removeValue(forKey: id), moment > now {
            wheel.set(id, at: moment, &dues[id])
            wanted[id] = moment
          }
        }
        for (_, moment) in wanted { #expect(moment > now - TimerWheel<Int>.slotMilliseconds * 2) }
      }
    }
  }

  @Test func `what was set to an earlier moment is not taken at the later one`() {
    var wheel = TimerWheel<Int>(now: 0)
    var due = TimerWheel<Int>.Due.none
    var taken: [Int64] = []
    wheel.set(1, at: 2000, &due)
    wheel.set(1, at: 500, &due)
    wheel.set(1, at: 3000, &due)
    for now in stride(from: Int64(0), through: 5000, by: 250) {
      wheel.take(now: now) { _, isDue in if isDue(&due) { taken.append(now) } }
    }
    #expect(taken == [500])
  }
}
