import TestSupport
import Testing

@testable import RedisFanout

@Suite struct CounterWindowTests {
  /// A reference to a window, because `#expect` cannot call mutating functions of a value.
  private final class Window {
    private(set) var value: CounterWindow
    init(highest: UInt64) { value = CounterWindow(highest: highest) }
    func take(_ counter: UInt64, now: Int64) -> Bool { value.take(counter, now: now) }
    func reach(_ counter: UInt64, now: Int64) { value.reach(counter, now: now) }
    func expire(missingSince moment: Int64) -> Bool { value.expire(missingSince: moment) }
    var isWhole: Bool { value.isWhole }
    var highest: UInt64 { value.highest }
  }

  /// Frames arrive in random order, twice, or not at all. Compares the window with a set of missing counters.
  @Test(arguments: 0..<200)
  func `each counter counts once, and what is missing is found`(_ seed: UInt64) {
    var random = SeededRandom(seed: seed)
    func pick(_ count: Int) -> Int { Int(random.next() % UInt64(count)) }
    let window = Window(highest: 10)
    var open: Set<UInt64> = []
    var highest: UInt64 = 10
    var now: Int64 = 0
    for _ in 0..<300 {
      now += Int64(pick(3))
      switch pick(8) {
      case 0:
        let counter = highest + UInt64(pick(3))
        if counter > highest { open.formUnion(highest + 1...counter) }
        highest = max(highest, counter)
        window.reach(counter, now: now)
      case 1:
        // All frames that are missing so far are given up.
        #expect(window.expire(missingSince: now) == !open.isEmpty)
        open = []
      case 2:
        // No frame has been missing since a time before the start, so none is given up.
        #expect(!window.expire(missingSince: -1))
      case 3:
        let counter = UInt64(pick(Int(highest) + 3))
        let isRight = counter > highest || open.contains(counter)
        if counter > highest + 1 { open.formUnion(highest + 1..<counter) }
        highest = max(highest, counter)
        open.remove(counter)
        #expect(window.take(counter, now: now) == isRight)
      default:
        highest += 1
        #expect(window.take(highest, now: now))
        #expect(!window.take(highest, now: now))
      }
      #expect(window.isWhole == open.isEmpty)
      #expect(window.highest == highest)
    }
  }

  @Test func `a leap is one gap, and costs no memory`() {
    let window = Window(highest: 0)
    #expect(window.take(.max - 1, now: 0))
    #expect(!window.isWhole)
    #expect(window.take(.max - 2, now: 0))
    #expect(!window.take(5, now: 0))
    #expect(window.expire(missingSince: 0))
    #expect(window.isWhole)
    #expect(window.take(.max, now: 0))
    #expect(!window.take(.max, now: 0))
  }
}
