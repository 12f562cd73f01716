import Testing

@testable import Relay

@Suite struct WaitingFramesTests {
  /// A box around the value, because `#expect` cannot call mutating functions on a value.
  private final class Held {
    private var frames = WaitingFrames()
    var isFull: Bool { frames.isFull }
    var isEmpty: Bool { frames.isEmpty }

    func add(_ text: String, now: Int64 = 0) {
      Array(text.utf8).withUnsafeBytes { frames.add($0, now: now) }
    }

    func next() -> String? { frames.next().map { String(decoding: $0, as: UTF8.self) } }

    func takeOverdue(now: Int64) -> [String] {
      frames.takeOverdue(now: now).map { String(decoding: $0, as: UTF8.self) }
    }
  }

  @Test func `frames keep their order`() {
    let waiting = Held()
    for text in ["a", "b", "c"] { waiting.add(text) }
    #expect((0..<4).map { _ in waiting.next() } == ["a", "b", "c", nil])
    #expect(waiting.isEmpty)
  }

  @Test func `reading stops at 512 frames or 256 KiB, and goes on below`() {
    let many = Held()
    for _ in 0..<511 { many.add("x") }
    #expect(!many.isFull)
    many.add("x")
    #expect(many.isFull)
    #expect(many.next() == "x")
    #expect(!many.isFull)
    let large = Held()
    for _ in 0..<2 { large.add(String(repeating: "x", count: 128 * 1024)) }
    #expect(large.isFull)
    #expect(large.takeOverdue(now: 5001).count == 2)
    #expect(!large.isFull)
  }

  @Test func `what stands behind an overdue frame is refused with it`() {
    let waiting = Held()
    waiting.add("select", now: 1000)
    waiting.add("message", now: 4000)
    #expect(waiting.takeOverdue(now: 6000).isEmpty)
    #expect(waiting.takeOverdue(now: 6001) == ["select", "message"])
    #expect(waiting.isEmpty)
    #expect(waiting.takeOverdue(now: 60_000).isEmpty)
  }
}
