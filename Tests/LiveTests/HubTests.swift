import Basics
import TestSupport
import Testing
import Web

@testable import Live

/// A hub with fake sockets, driven in random order by a seeded generator. What each socket is sent is compared with
/// lists that are kept in a simple way.
@Suite struct HubTests {
  /// A frame of a test, identified by 8 bytes, so that a stream of frames can be parsed.
  private struct Frame: Equatable {
    /// 0 for a frame of one connection alone; otherwise the topic's number + 1.
    let topic: UInt8
    let grade: UInt8
    let number: UInt32
    /// For a frame of one connection with a position among those of a topic: the topic's number + 1.
    var follows: UInt8 = 0

    var bytes: [UInt8] {
      [0xF0, topic, grade, follows]
        + (0..<4).map { UInt8(truncatingIfNeeded: number >> ($0 * 8)) }
    }

    /// The frames in a stream; nil if it does not consist of whole frames.
    static func read(_ stream: [UInt8]) -> [Frame]? {
      var frames: [Frame] = []
      guard stream.count % 8 == 0 else { return nil }
      for start in stride(from: 0, to: stream.count, by: 8) {
        let part = stream[start..<(start + 8)]
        let bytes = Array(part)
        guard bytes[0] == 0xF0 else { return nil }
        let number = (4..<8).reduce(UInt32(0)) { $0 | UInt32(bytes[$1]) << (($1 - 4) * 8) }
        frames.append(
          Frame(topic: bytes[1], grade: bytes[2], number: number, follows: bytes[3]))
      }
      return frames
    }
  }

  private static let durable: UInt8 = 0
  private static let droppable: UInt8 = 1
  private static let latest: UInt8 = 2
  /// What a connection gets instead of a topic's frame.
  private static let theirs: UInt8 = 3

  /// A connection with everything that it must have been sent in the end.
  private final class Person {
    let sink = FakeSink()
    let connection: Hub.Connection
    /// For each topic, the frames with a promised order: its durable ones, and those of this connection that were
    /// sent after them.
    var ordered: [[Frame]]
    var own: [Frame] = []
    /// The newest state of each topic that was published while it was subscribed.
    var latest: [Frame?]
    var listens: [Bool]

    init(_ hub: Hub, topics: Int) {
      connection = hub.makeConnection(sink)
      ordered = Array(repeating: [], count: topics)
      latest = Array(repeating: nil, count: topics)
      listens = Array(repeating: false, count: topics)
    }

    /// The received frames whose order relative to a topic is promised.
    static func order(of topic: Int, in frames: [Frame]) -> [Frame] {
      frames.filter {
        ($0.topic == UInt8(topic + 1) && $0.grade == durable) || $0.follows == UInt8(topic + 1)
      }
    }
  }

  private final class World {
    var random: SeededRandom
    var time: UInt64 = 1
    var gateTime: Int64 = 0
    let gate: DeliveryGate
    let hub: Hub
    let topics: [Topic]
    var people: [Person] = []
    var number: UInt32 = 0
    var isWakeWanted = false
    var failures: [String] = []

    init(seed: UInt64, people count: Int, topics topicCount: Int) {
      random = SeededRandom(seed: seed)
      let clocks = Clocks()
      gate = DeliveryGate(maximumAgeMilliseconds: 900) { clocks.gate }
      var wake: () -> Void = {}
      hub = Hub(
        gate: gate, sendQueueBytes: .max, metrics: LiveMetrics(Metrics()),
        clock: { 1 }, threadClock: { clocks.next() }, wake: { _ in wake() })
      topics = (0..<topicCount).map { _ in Topic() }
      hub.largeAudience = 2
      self.clocks = clocks
      people = (0..<count).map { _ in Person(hub, topics: topicCount) }
      wake = { [unowned self] in isWakeWanted = true }
    }

    final class Clocks {
      var gate: Int64 = 0
      var nanoseconds: UInt64 = 1
      /// How much time passes between two reads of the clock. A long time ends a flush early.
      var step: UInt64 = 1000

      func next() -> UInt64 {
        nanoseconds += step
        return nanoseconds
      }
    }
    let clocks: Clocks

    func pick(_ count: Int) -> Int { Int(random.next() % UInt64(count)) }

    func frame(_ topic: Int?, _ grade: UInt8 = durable, follows: Int? = nil) -> Frame {
      number += 1
      return Frame(
        topic: UInt8(topic.map { $0 + 1 } ?? 0), grade: grade, number: number,
        follows: UInt8(follows.map { $0 + 1 } ?? 0))
    }

    func step() {
      let person = people[pick(people.count)]
      let index = pick(topics.count)
      let topic = topics[index]
      switch pick(20) {
      case 0, 1, 2:
        hub.subscribe(person.connection, to: topic)
        person.listens[index] = true
      case 3:
        hub.unsubscribe(person.connection, from: topic)
        person.listens[index] = false
        person.latest[index] = nil
      case 4: revoke(person, index)
      case 5, 6, 7, 8: publish(index)
      case 9:
        let frame = frame(index, droppable)
        hub.publish(frame.bytes, to: topic, .droppable)
      case 10:
        let frame = frame(index, latest)
        hub.publish(frame.bytes, to: topic, .latest)
        for person in people where person.listens[index] { person.latest[index] = frame }
      case 11: publishExcept(index)
      case 12, 13:
        let follows = pick(2) == 0 ? index : nil
        let frame = frame(nil, follows: follows)
        hub.send(frame.bytes, to: person.connection, after: follows.map { topics[$0] })
        person.own.append(frame)
        if let follows { person.ordered[follows].append(frame) }
      case 14: hub.flush(person.connection)
      case 15:
        person.sink.window = pick(3) == 0 ? pick(40) : .max
        read(person, pick(200))
      case 16: clocks.gate += Int64(pick(600))
      case 17: gate.compared(at: clocks.gate)
      default: endTurn()
      }
    }

    func read(_ person: Person, _ count: Int) {
      // A socket may not send queued bytes while the gate is closed.
      guard gate.isOpen, person.sink.queuedBytes > 0 else { return }
      if person.sink.read(count) { hub.drained(person.connection) }
    }

    func publish(_ index: Int) {
      let frame = frame(index)
      hub.publish(frame.bytes, to: topics[index])
      for person in people where person.listens[index] { person.ordered[index].append(frame) }
    }

    func publishExcept(_ index: Int) {
      let (shared, theirs) = (frame(index), frame(nil, HubTests.theirs, follows: index))
      let senders = people.filter { _ in pick(3) == 0 }
      hub.publish(
        shared.bytes, to: topics[index],
        variants: [Hub.Variant(theirs.bytes, for: senders.map(\.connection))])
      for person in people where person.listens[index] {
        let isSender = senders.contains { $0 === person }
        person.ordered[index].append(isSender ? theirs : shared)
        if isSender { person.own.append(theirs) }
      }
    }

    /// With the gate closed, what is queued of the topic is not sent any more.
    func revoke(_ person: Person, _ index: Int) {
      let isClosed = !gate.isOpen
      hub.unsubscribe(person.connection, from: topics[index], isRevoked: true)
      person.listens[index] = false
      person.latest[index] = nil
      guard isClosed, let sent = Frame.read(person.sink.received + person.sink.queue) else {
        return
      }
      let isDropped = { (frame: Frame) in
        (frame.topic > 0 || frame.grade == HubTests.theirs) && frame.follows <= UInt8(index + 1)
          && !sent.contains(frame)
      }
      person.ordered[index].removeAll(where: isDropped)
      person.own.removeAll { $0.follows == UInt8(index + 1) && isDropped($0) }
    }

    func endTurn() {
      isWakeWanted = false
      hub.didWake()
      // Sometimes a turn has time for a few writes only.
      clocks.step = pick(3) == 0 ? 2_000_000 : 1000
      let wasClosed = !gate.isOpen
      let before = people.map { $0.sink.received.count + $0.sink.queue.count }
      hub.endTurn()
      if wasClosed, before != people.map({ $0.sink.received.count + $0.sink.queue.count }) {
        failures.append("written while the gate was closed")
      }
    }

    func settle() {
      gate.compared(at: clocks.gate)
      for _ in 0..<10_000 {
        endTurn()
        let isQuiet = !isWakeWanted && people.allSatisfy { $0.sink.queuedBytes == 0 }
        for person in people { read(person, .max) }
        if isQuiet { return }
      }
      failures.append("never settles")
    }
  }

  @Test(arguments: 1...300)
  func `every interleaving keeps order, and loses nothing that matters`(seed: UInt64) {
    // More subscribers than a flush writes to between two reads of the clock.
    let world = World(seed: seed, people: seed % 4 == 0 ? 150 : 5, topics: 3)
    for _ in 0..<400 { world.step() }
    world.settle()
    #expect(world.failures.isEmpty, "\(world.failures)")
    for person in world.people {
      guard let frames = Frame.read(person.sink.received) else {
        Issue.record("seed \(seed): a stream of broken frames")
        return
      }
      for topic in world.topics.indices {
        #expect(
          Person.order(of: topic, in: frames).map(\.number)
            == person.ordered[topic].map(\.number), "seed \(seed)")
        let states = frames.filter { $0.topic == UInt8(topic + 1) && $0.grade == Self.latest }
        #expect(states.map(\.number) == states.map(\.number).sorted(), "seed \(seed)")
        if let latest = person.latest[topic] { #expect(states.last == latest, "seed \(seed)") }
      }
      #expect(frames.filter { $0.topic == 0 } == person.own, "seed \(seed)")
    }
  }
}
