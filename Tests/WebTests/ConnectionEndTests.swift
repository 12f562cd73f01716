import Testing

@testable import Web

/// Tests of when a connection that this side closes is cut. The tests set the clock, in milliseconds.
@Suite struct ConnectionEndTests {
  @Test func `a reader that takes something is waited for`() {
    let end = ConnectionEnd(patience: 5_000, now: 0)
    #expect(!end.isOver(stalledMilliseconds: 4_999, unread: 100, now: 900_000))
    #expect(end.isOver(stalledMilliseconds: 5_000, unread: 100, now: 5_000))
  }

  @Test func `once this side is shut a silent peer has two seconds`() {
    var end = ConnectionEnd(patience: 30_000, now: 0)
    end.shut(now: 10_000)
    #expect(!end.isOver(stalledMilliseconds: 0, unread: 0, now: 11_999))
    #expect(end.isOver(stalledMilliseconds: 0, unread: 0, now: 12_000))
    // As long as the peer's kernel has not acknowledged everything, only `patience` counts.
    #expect(!end.isOver(stalledMilliseconds: 0, unread: 1, now: 99_000))
  }

  @Test func `many bytes put off the end, but not for ever`() {
    var end = ConnectionEnd(patience: 30_000, now: 0)
    end.shut(now: 0)
    end.received(16 * 1024, now: 1_500)
    #expect(!end.isOver(stalledMilliseconds: 0, unread: 0, now: 3_499))
    // A single byte does not extend the time.
    end.received(1, now: 3_000)
    #expect(end.isOver(stalledMilliseconds: 0, unread: 0, now: 3_500))
    end.received(16 * 1024, now: 29_999)
    #expect(!end.isOver(stalledMilliseconds: 0, unread: 0, now: 29_999))
    #expect(end.isOver(stalledMilliseconds: 0, unread: 0, now: 30_000))
  }
}
