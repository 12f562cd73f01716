import Access
import Basics
import Events
import Synchronization
import Testing

@Suite struct EventStreamTests {
  /// Records what was sent to other nodes.
  private final class RecordingFanout: Fanout {
    let sent = Mutex<[Event]>([])
    func start(_ receive: @escaping @Sendable ([Event]) -> Void) {}
    func publish(_ events: [Event]) { sent.withLock { $0 += events } }
    func follow(_ rooms: [RoomID]) {}
    func unfollow(_ rooms: [RoomID]) {}
    func following(_ rooms: [RoomID]) async {}
    func epochChanged(to epoch: String) {}
    func stop() async {}
  }

  private final class Heard: Sendable {
    private let rooms = Mutex<[Int64]>([])
    func add(_ events: [Event]) { rooms.withLock { $0 += EventStreamTests.rooms(events) } }
    var all: [Int64] { rooms.withLock { $0 } }
  }

  private static func change(_ room: Int64) -> Event {
    .access(.roomChanged(RoomID(room), version: 1))
  }

  private static func rooms(_ events: [Event]) -> [Int64] {
    events.compactMap {
      if case .access(.roomChanged(let id, _)) = $0 { id.value } else { nil }
    }
  }

  @Test func `what a listener publishes comes behind what is being delivered, for everyone`() {
    let stream = EventStream(fanout: InProcessFanout())
    let (first, second) = (Heard(), Heard())
    stream.listen { events in
      first.add(events)
      if Self.rooms(events) == [1] { stream.publish([Self.change(2)]) }
    }
    stream.listen { second.add($0) }
    stream.publish([Self.change(1)])
    stream.publish([Self.change(3)])
    #expect(first.all == [1, 2, 3])
    #expect(second.all == [1, 2, 3])
  }

  @Test(.timeLimit(.minutes(1)))
  func `publishers on many threads reach every listener in one order`() async {
    let stream = EventStream(fanout: InProcessFanout())
    let (first, second) = (Heard(), Heard())
    stream.listen { first.add($0) }
    stream.listen { second.add($0) }
    await withTaskGroup { group in
      for publisher in 0..<8 {
        group.addTask {
          for number in 0..<200 { stream.publish([Self.change(Int64(publisher * 1000 + number))]) }
        }
      }
    }
    #expect(first.all.count == 1600)
    #expect(first.all == second.all)
  }

  @Test func `answers and what a node found by itself stay on their node`() {
    let fanout = RecordingFanout()
    let stream = EventStream(fanout: fanout)
    let draft = Draft(
      roomID: RoomID(1), channelID: "1", from: .make(), body: .deletion(of: 1), access: .decided)
    stream.publish([
      .receipt(Receipt(draft, .stale)), Self.change(1), .compared(at: 1), .epochChanged("e"),
      .missed([Shard(index: 1)]),
    ])
    stream.deliverHere([Self.change(2)])
    #expect(fanout.sent.withLock { Self.rooms($0) } == [1])
    #expect(fanout.sent.withLock(\.count) == 1)
  }
}
