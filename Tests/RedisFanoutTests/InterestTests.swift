import Basics
import Events
import TestSupport
import Testing

@testable import RedisFanout

@Suite struct InterestTests {
  /// Follows and unfollows rooms, breaks connections, and confirms requests, in random order. Compares the result with
  /// a simple model of Redis: a set of subscribed shards.
  @Test(arguments: 0..<200)
  func `what holds is followed, and what was not is said to be missed`(_ seed: UInt64) {
    var random = SeededRandom(seed: seed)
    func pick(_ count: Int) -> Int { Int(random.next() % UInt64(count)) }
    var interest = Interest()
    var rooms: [RoomID] = []
    // The shards that Redis has a subscription for, the requests that it has not handled yet, and the confirmations
    // that have not arrived yet.
    var subscribed: Set<Shard> = []
    var asked: [(shard: Shard, subscribes: Bool)] = []
    var confirmations: [Shard] = []
    // The shards in which events may have been missed.
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
        // The shard has no followed room any more, so nothing can have been missed.
        if !Shard.of(rooms).contains(Shard(of: room)) { doubted.remove(Shard(of: room)) }
      case 4:
        guard pick(10) == 0 else { break }
        interest.disconnected()
        (subscribed, asked, confirmations) = ([], [], [])
        doubted.formUnion(Shard.of(rooms))
      case 5:
        // A caller waits for the confirmation of some rooms, and for some shards gives up.
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
    // In the end Redis handles and confirms all requests.
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
