import Basics
import Testing

@Suite struct FairQueueTests {
  @Test func `keys have their turns, and each keeps its order`() {
    var queue = FairQueue<String, Int>()
    for number in 1...4 { queue.append(number, of: "many") }
    queue.append(10, of: "few")
    #expect(queue.count == 5 && queue.count(of: "many") == 4 && queue.count(of: "none") == 0)
    #expect(queue.popFirst() == 1)
    queue.append(20, of: "late")
    var rest: [Int] = []
    while let next = queue.popFirst() { rest.append(next) }
    #expect(rest == [10, 2, 20, 3, 4])
    #expect(queue.count == 0 && queue.count(of: "many") == 0)
    queue.append(5, of: "many")
    #expect(queue.popFirst() == 5)
  }
}
