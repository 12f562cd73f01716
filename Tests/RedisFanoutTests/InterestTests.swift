import Basics
import Events
import TestSupport
import Testing

@testable import RedisFanout

@Suite struct InterestTests {
  /// Rooms are followed and left, connections break, and confirmations come at any time. A set in the place of Redis
  /// says what is correct.
  @Test(arguments: 0..<200)
  func `what holds is followed, and what was not is said to be missed`(_ seed: UInt64) {
    var random = SeededRandom(seed: seed)
    func pick(_ count: Int) -> Int { Int(random.next() % UInt64(count)) }
    var interest = Interest()
    var rooms: [RoomID] = []
    // What Redis knows, and the requests that it has not handled yet.
    var subscribed: Set<Shard> = []
    var asked: [(shard: Shard, subscribes: Bool)] = []
    var confirmations: [Shard] = []
    // Shards in which somebody may have missed something.
    var doubted: Set<Shard> = []

    func ask() {
      let changes = interest.takeChanges()
      asked += changes.subscribe.map { ($0, true) } + changes.unsubscribe.map { ($0, false) }
    }
    for step in 0..<400 {
      switch step < 350 ? pick(8) : 6 + pick(2) {
      case 0, 1:
        let room = RoomID(Int64(1 + pick(4) + 256 * pick(2)))
        rooms.append(room)
        _ = interest.follow([room])
      case 2, 3:
        guard !rooms.isEmpty else { break }
        let room = rooms.remove(at: pick(rooms.count))
        _ = interest.unfollow([room])
        // Nobody is left who could have missed anything.
        if !Shard.of(rooms).contains(Shard(of: room)) { doubted.remove(Shard(of: room)) }
      case 4:
        guard pick(10) == 0 else { break }
        interest.disconnected()
        (subscribed, asked, confirmations) = ([], [], [])
        doubted.formUnion(Shard.of(rooms))
      case 5:
        // Somebody opens rooms, and does not wait for long.
        let some = Shard.of(rooms.filter { _ in pick(2) == 0 })
        let unsure = interest.unconfirmed(of: some)
        if !interest.isConnected { doubted.formUnion(some) }
        for shard in unsure where pick(2) == 0 {
          interest.noteUnconfirmed([shard])
          doubted.insert(shard)
        }
      case 6:
        if !interest.isConnected { interest.connected() }
        ask()
      default:
        if !asked.isEmpty {
          let next = asked.removeFirst()
          if next.subscribes {
            subscribed.insert(next.shard)
          } else {
            subscribed.remove(next.shard)
          }
          confirmations.append(next.shard)
        }
        if !confirmations.isEmpty, pick(2) == 0 {
          let shard = confirmations.removeFirst()
          let isMissed = interest.confirmed(shard)
          if isMissed { doubted.remove(shard) }
        }
      }
      for shard in Shard.of(rooms) where interest.holds([shard]) {
        #expect(subscribed.contains(shard))
        #expect(!doubted.contains(shard))
      }
    }
    // All requests are handled.
    if !interest.isConnected { interest.connected() }
    ask()
    for next in asked {
      if next.subscribes { subscribed.insert(next.shard) } else { subscribed.remove(next.shard) }
      confirmations.append(next.shard)
    }
    for shard in confirmations where interest.confirmed(shard) { doubted.remove(shard) }
    #expect(subscribed == Shard.of(rooms))
    #expect(interest.holds(Shard.of(rooms)))
    #expect(doubted.isEmpty)
  }
}
