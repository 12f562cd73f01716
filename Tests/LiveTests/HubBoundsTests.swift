import Basics
import TestSupport
import Testing
import Web

@testable import Live

/// The hub at its limits: slow readers, large audiences, large batches.
@Suite struct HubBoundsTests {
  private final class Clock {
    private var nanoseconds: UInt64 = 1
    /// How much time passes between two reads of the clock.
    var step: UInt64 = 0

    func look() -> UInt64 {
      nanoseconds += step
      return nanoseconds
    }
  }

  private func makeHub(
    queue: Int = .max, _ clock: Clock = Clock(), wake: @escaping (Int) -> Void = { _ in }
  ) -> Hub {
    Hub(
      gate: DeliveryGate(maximumAgeMilliseconds: nil), sendQueueBytes: queue,
      metrics: LiveMetrics(Metrics()), clock: { 1 }, threadClock: { clock.look() }, wake: wake)
  }

  private func frame(_ byte: UInt8, _ count: Int) -> [UInt8] {
    Array(repeating: byte, count: count)
  }

  @Test func `who reads too slowly is closed at the bound, and nobody else`() {
    let hub = makeHub(queue: 1000)
    let topic = Topic()
    let sinks = [FakeSink(), FakeSink()]
    for sink in sinks { hub.subscribe(hub.makeConnection(sink), to: topic) }
    sinks[0].window = 0
    hub.publish(frame(1, 1000), to: topic)
    hub.endTurn()
    #expect(sinks[0].isOpen)
    hub.publish(frame(2, 1), to: topic)
    hub.endTurn()
    #expect(sinks[0].closedWith == .slowReader)
    #expect(sinks[1].isOpen)
    #expect(sinks[1].received.count == 1001)
  }

  @Test func `what is held back for a connection counts, what it takes in the same turn does not`()
  {
    let hub = makeHub(queue: 1000)
    let sinks = [FakeSink(), FakeSink(), FakeSink()]
    let connections = sinks.map { hub.makeConnection($0) }
    hub.cork(connections[0])
    hub.cork(connections[1])
    for _ in 0..<10 {
      hub.send(frame(1, 100), to: connections[0])
      hub.send(frame(1, 101), to: connections[1])
      hub.send(frame(1, 101), to: connections[2])
    }
    hub.endTurn()
    #expect(sinks[0].isOpen)
    #expect(sinks[1].closedWith == .slowReader)
    // It was written to.
    #expect(sinks[2].isOpen)
    #expect(sinks[2].received.count == 1010)
  }

  @Test func `droppable frames are left out beyond 512 KiB, durable ones are not`() {
    let hub = makeHub()
    let topic = Topic()
    let (slow, quick) = (FakeSink(), FakeSink())
    let connections = [slow, quick].map { hub.makeConnection($0) }
    for connection in connections { hub.subscribe(connection, to: topic) }
    slow.window = 0
    hub.publish(frame(1, 512 * 1024), to: topic)
    hub.endTurn()
    hub.publish(frame(2, 1), to: topic, .droppable)
    hub.endTurn()
    // At the limit it is still sent, beyond it is not.
    #expect(slow.queue.last == 2)
    hub.publish(frame(3, 2), to: topic, .droppable)
    hub.publish(frame(4, 2), to: topic)
    hub.publish(frame(5, 2), to: topic, .droppable)
    hub.endTurn()
    #expect(slow.queue.suffix(3) == [2, 4, 4])
    #expect(quick.received.suffix(6) == [3, 3, 4, 4, 5, 5])
    hub.sendDroppable(frame(6, 1), to: connections[0])
    hub.sendDroppable(frame(6, 1), to: connections[1])
    hub.endTurn()
    #expect(slow.queue.last == 4)
    #expect(quick.received.last == 6)
  }

  @Test func `of states that have not left only the newest does`() {
    let hub = makeHub()
    let topic = Topic()
    let (slow, quick) = (FakeSink(), FakeSink())
    let connection = hub.makeConnection(slow)
    hub.subscribe(connection, to: topic)
    hub.subscribe(hub.makeConnection(quick), to: topic)
    slow.window = 0
    hub.publish(frame(1, 1), to: topic)
    hub.publish(frame(2, 1), to: topic, .latest)
    hub.publish(frame(3, 1), to: topic, .latest)
    hub.endTurn()
    #expect(quick.received == [1, 3])
    for state: UInt8 in 4...9 {
      hub.publish(frame(state, 1), to: topic, .latest)
      hub.endTurn()
    }
    #expect(quick.received == [1, 3, 4, 5, 6, 7, 8, 9])
    slow.window = .max
    #expect(slow.read(.max))
    hub.drained(connection)
    hub.endTurn()
    #expect(slow.received == [1, 3, 9])
  }

  @Test func `a large audience is written in slices, and what comes meanwhile behind them`() {
    let clock = Clock()
    // At the first read of the clock in each turn, the turn's time is used up.
    clock.step = Hub.flushNanoseconds
    var wakes: [Int] = []
    let hub = makeHub(clock) { wakes.append($0) }
    let topic = Topic()
    hub.largeAudience = 999
    let sinks = (0..<1000).map { _ in FakeSink() }
    for sink in sinks { hub.subscribe(hub.makeConnection(sink), to: topic) }
    hub.publish(frame(1, 10), to: topic)
    var turns = 0
    let late = FakeSink()
    while sinks.contains(where: { $0.received.isEmpty }), turns < 100 {
      turns += 1
      hub.didWake()
      hub.endTurn()
      let written = sinks.count { !$0.received.isEmpty }
      #expect(written == min(1000, turns * Hub.writesPerLook))
      if turns == 3 {
        hub.publish(frame(2, 10), to: topic)
        hub.subscribe(hub.makeConnection(late), to: topic)
        hub.publish(frame(3, 10), to: topic)
      }
    }
    #expect(turns == (1000 + Hub.writesPerLook - 1) / Hub.writesPerLook)
    #expect(wakes.allSatisfy { $0 == 0 })
    for _ in 0..<100 {
      hub.didWake()
      hub.endTurn()
    }
    let expected = frame(1, 10) + frame(2, 10) + frame(3, 10)
    #expect(sinks.allSatisfy { $0.received == expected })
    #expect(late.received == frame(3, 10))
  }

  @Test func `memory of a batch leaves with the batch`() {
    let topic = Topic()
    let sink = FakeSink()
    _ = topic.insert(1, sink.outlet)
    topic.append(frame(1, 60_000), .durable) { [] }
    topic.startSending()
    topic.advance { _, bytes, from in bytes.count == 60_000 && from == 0 }
    #expect(topic.isSent)
    #expect(topic.finishSending()?.count == 60_000)
    #expect(topic.gathered.capacity == 0)
    #expect(topic.sending == nil)
    // A buffer of which a reader keeps a part is not reused.
    topic.append(frame(1, 10), .durable) { [] }
    topic.startSending()
    let kept = topic.sharedSending()
    topic.advance { _, _, _ in true }
    #expect(topic.finishSending() == nil)
    #expect(kept?.count == 10)
  }
}
