import Basics
import Events
import Testing

@testable import Relay

@Suite struct HeadComparisonsTests {
  private static let room = RoomID(1)

  /// Answers all requests until there are none, letting 30 ms pass in between, in which timers may cause more
  /// requests.
  private func settle(_ world: RelayWorld) {
    for _ in 0..<5 {
      while world.backend.hasPending { world.backend.answerOne(mayFail: false) }
      world.backend.pass(30)
    }
  }

  /// The snapshot that is read is older or newer than the entry, depending on the seed.
  @Test(arguments: 1...UInt64(20))
  func `what was missed while a room was being read is found by one comparison`(seed: UInt64) {
    let world = RelayWorld(seed: seed)
    world.relay.feeds.prepare([Self.room])
    let entry = world.database.append(to: Self.room)
    world.hear([.missed([Shard(of: Self.room)])])
    settle(world)
    #expect(world.relay.feeds.lastSeq(Self.room) == entry.seq)
  }

  @Test(arguments: 1...UInt64(20))
  func `what was missed of a room that is served is found, also behind a failure`(seed: UInt64) {
    let world = RelayWorld(seed: seed)
    world.relay.feeds.prepare([Self.room])
    settle(world)
    let entry = world.database.append(to: Self.room)
    world.hear([.missed([Shard(of: Self.room)])])
    world.backend.failOne()
    #expect(world.relay.feeds.lastSeq(Self.room) == 0)
    world.backend.pass(1000)
    settle(world)
    #expect(world.relay.feeds.lastSeq(Self.room) == entry.seq)
  }

  @Test(arguments: 1...UInt64(20))
  func `a change of epoch while heads are compared stops no later comparison`(seed: UInt64) {
    let world = RelayWorld(seed: seed)
    world.relay.feeds.prepare([Self.room])
    settle(world)
    world.hear([.missed([Shard(of: Self.room)])])
    world.hear([.epochChanged("e")])
    settle(world)
    world.relay.feeds.prepare([Self.room])
    settle(world)
    let entry = world.database.append(to: Self.room)
    world.hear([.missed([Shard(of: Self.room)])])
    settle(world)
    #expect(world.relay.feeds.lastSeq(Self.room) == entry.seq)
  }

  @Test func `rooms come in parts, one part of the urgent ones at a time`() throws {
    var comparisons = HeadComparisons()
    let rooms = (1...1200).map { RoomID($0) }
    comparisons.beginRound { rooms }
    let total = comparisons.roomsInRound
    #expect(total == 1200)
    let sizes = (0..<3).map { _ in comparisons.nextOfRound().count }
    #expect(sizes == [500, 500, 200])
    comparisons.beginRound { [] as [RoomID] }

    comparisons.addUrgent(rooms)
    comparisons.addUrgent(rooms)
    var seen: [RoomID] = []
    for size in [500, 500, 200] {
      let next = comparisons.nextUrgent()
      let (part, number) = try #require(next)
      let second = comparisons.nextUrgent()
      #expect(part.count == size && second == nil)
      seen += part
      let isDone = comparisons.urgentDone(number)
      #expect(isDone)
    }
    #expect(seen.sorted() == rooms)

    comparisons.addUrgent(rooms)
    let running = comparisons.nextUrgent()
    let old = try #require(running)
    comparisons.forgetAll()
    let isDone = comparisons.urgentDone(old.number)
    #expect(!isDone)
    let nothing = comparisons.nextUrgent()
    #expect(nothing == nil)
  }
}
