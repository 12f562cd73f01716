import Basics
import TestSupport
import Testing

@Suite struct QueueTests {
  /// Random operations, with an array that does the same.
  @Test(arguments: 1...UInt64(20))
  func `what goes in first comes out first`(_ seed: UInt64) {
    var random = SeededRandom(seed: seed)
    var queue = Queue<Int>()
    var plain: [Int] = []
    var next = 0
    for _ in 0..<2_000 {
      let count = Int.random(in: 0...40, using: &random)
      switch Int.random(in: 0..<5, using: &random) {
      case 0:
        queue.append(next)
        plain.append(next)
        next += 1
      case 1:
        queue.append(contentsOf: next..<next + count)
        plain += next..<next + count
        next += count
      case 2:
        #expect(queue.popFirst() == (plain.isEmpty ? nil : plain.removeFirst()))
      case 3:
        #expect(queue.take(atMost: count) == Array(plain.prefix(count)))
        plain.removeFirst(min(count, plain.count))
      default:
        let bound = next - 20 * count
        let taken = queue.popWhile { $0 < bound }
        #expect(taken == Array(plain.prefix { $0 < bound }))
        plain.removeFirst(taken.count)
      }
      #expect(queue.count == plain.count && queue.first == plain.first)
      #expect(queue.isEmpty == plain.isEmpty)
    }
    #expect(queue.take(atMost: .max) == plain && queue.isEmpty)
  }

  @Test func `what was taken is released at once`() {
    final class Item {}
    var queue = Queue<Item>()
    queue.append(Item())
    queue.append(Item())
    weak let first = queue.first
    _ = queue.take(atMost: 1)
    #expect(first == nil && queue.count == 1)
  }
}
