import Access
import Basics
import Events
import TestSupport
import Testing

/// Tests of the contract that every `Fanout` must fulfill.
@Suite(.timeLimit(.minutes(2)), .serialized) struct FanoutContractTests {
  private static let rooms: [RoomID] = [1, 2, 257, 300].map { RoomID($0) }

  @Test(arguments: Carrier.allCases)
  func `each entry of a followed room comes once, or is said to be missed`(
    _ carrier: Carrier
  ) async throws {
    let nodes = try await carrier.nodes(3)
    for node in nodes {
      node.fanout.follow(Self.rooms)
      await node.fanout.following(Self.rooms)
    }
    var published: [[Entry]] = [[], [], []]
    for round in 1...(carrier == .spoiledRedis ? 30 : 100) {
      let before = nodes.map(\.all.count)
      var sent: [[Entry]] = [[], [], []]
      for commit in 1...3 {
        for (index, node) in nodes.enumerated() {
          let entries = Self.rooms.prefix(1 + (round + index + commit) % 4).map {
            Entry.numbered(Int64(published[index].count + 1), in: $0.value)
          }
          sent[index] += entries
          node.events.publish(entries.map { .entry($0, origin: nil) })
        }
      }
      for (index, node) in nodes.enumerated() {
        published[index] += sent[index]
        let expected = (0..<3).flatMap { $0 == index ? [] : sent[$0] }
        await node.until { [before] in Self.isAccounted(expected, $0[before[index]...]) }
      }
    }
    for (index, node) in nodes.enumerated() {
      let all = node.all.entryIDs
      let known = Set(published.flatMap { $0 }.map(\.id))
      #expect(Set(all).count == all.count)
      #expect(known.isSuperset(of: all))
      // Each node receives its own events once, locally.
      #expect(Set(published[index].map(\.id)).isSubset(of: all))
      guard carrier != .spoiledRedis else { continue }
      #expect(all.count == known.count)
      // The events of each publisher arrive in order, room by room.
      for source in published {
        for room in Self.rooms {
          let sent = source.filter { $0.roomID == room }.map(\.id)
          #expect(all.filter(Set(sent).contains) == sent)
        }
      }
    }
    if carrier == .spoiledRedis {
      // The proxy must have dropped something; otherwise the test would have proved nothing.
      #expect(nodes.contains { $0.all.entryIDs.count < published.joined().count })
    }
    for node in nodes { await node.fanout.stop() }
  }

  /// Returns whether each of these entries has arrived, or a loss in its shard was announced.
  private static func isAccounted(_ expected: [Entry], _ heard: ArraySlice<Event>) -> Bool {
    let (come, missed) = (Set(Array(heard).entryIDs), Array(heard).missed)
    return expected.allSatisfy { come.contains($0.id) || missed.contains(Shard(of: $0.roomID)) }
  }

  @Test(arguments: Carrier.allCases)
  func `rooms that are not followed are not heard, changes of access always`(
    _ carrier: Carrier
  ) async throws {
    let nodes = try await carrier.nodes(2)
    // Publish an entry in a shard that no node follows.
    nodes[0].events.publish([.entry(.numbered(1, in: 77), origin: nil)])
    let changes: [AccessChange] = [
      .roomChanged(RoomID(77), version: 3), .roomDeleted(RoomID(78), version: 4),
      .sessionEnded(SessionID(UUID(high: 1, low: 2))),
      .affiliationsChanged(UserID(UUID(high: 3, low: 4)), version: 5),
      .invited(RoomID(9), subject: UUID(high: 5, low: 6), version: 6),
    ]
    // Publish them repeatedly, because changes of access may be lost without an announcement.
    await nodes[1].until(
      { heard in changes.allSatisfy(heard.changes.contains) },
      repeating: { nodes[0].events.publish(changes.map { .access($0) }) })
    #expect(nodes[1].all.changes.allSatisfy(changes.contains))
    #expect(nodes[1].all.entryIDs.isEmpty)
    for node in nodes { await node.fanout.stop() }
  }

  @Test(arguments: [Carrier.inProcess, .redis])
  func `following is counted`(_ carrier: Carrier) async throws {
    let nodes = try await carrier.nodes(2)
    let room = RoomID(5)
    func send(_ seq: Int64) -> MessageID {
      let entry = Entry.numbered(seq, in: 5)
      // A signal for everyone arrives after the entry, so it marks the point where the entry must have arrived.
      nodes[0].events.publish([
        .entry(entry, origin: nil),
        .signal(Signal(to: .everyone, kind: "mark", content: [UInt8(seq)])),
      ])
      return entry.id
    }
    func mark(_ seq: Int64) async {
      await nodes[1].until { $0.signals.contains { $0.content == [UInt8(seq)] } }
    }
    nodes[1].fanout.follow([room])
    nodes[1].fanout.follow([room])
    await nodes[1].fanout.following([room])
    let first = send(1)
    await mark(1)
    nodes[1].fanout.unfollow([room])
    let second = send(2)
    await mark(2)
    nodes[1].fanout.unfollow([room])
    // Requests are confirmed in order, so once another room is confirmed, the room above is no longer followed.
    nodes[1].fanout.follow([RoomID(6)])
    await nodes[1].fanout.following([RoomID(6)])
    _ = send(3)
    await mark(3)
    #expect(nodes[1].all.entryIDs == [first, second])
    for node in nodes { await node.fanout.stop() }
  }

  @Test(arguments: [Carrier.inProcess, .redis])
  func `signals reach those who serve the room, and everyone`(_ carrier: Carrier) async throws {
    let nodes = try await carrier.nodes(3)
    nodes[1].fanout.follow([RoomID(4)])
    await nodes[1].fanout.following([RoomID(4)])
    let typing = Signal(to: .room(RoomID(4)), kind: "typing", content: [1, 2, 255])
    let presence = Signal(to: .everyone, kind: "presence", content: [])
    let (first, stream) = (nodes[0], [Event.signal(typing), .signal(presence)])
    // Signals may be lost.
    await nodes[1].until(
      { $0.signals.contains(typing) && $0.signals.contains(presence) },
      repeating: { first.events.publish(stream) })
    await nodes[2].until(
      { !$0.signals.isEmpty }, repeating: { first.events.publish(stream) })
    #expect(nodes[2].all.signals.allSatisfy { $0 == presence })
    // A node receives its own signals once, locally.
    let own = nodes[0].all.signals
    #expect(
      own.count { $0 == typing } == own.count / 2 && own.count { $0 == presence } == own.count / 2)
    for node in nodes { await node.fanout.stop() }
  }

  @Test(arguments: [Carrier.inProcess, .redis])
  func `who has stopped neither hears nor is heard`(_ carrier: Carrier) async throws {
    let nodes = try await carrier.nodes(3)
    await nodes[1].fanout.stop()
    nodes[1].events.publish([.access(.roomChanged(RoomID(1), version: 1))])
    nodes[0].events.publish([.access(.roomChanged(RoomID(2), version: 1))])
    await nodes[2].until { !$0.changes.isEmpty }
    #expect(nodes[2].all.changes == [.roomChanged(RoomID(2), version: 1)])
    #expect(nodes[1].all.changes == [.roomChanged(RoomID(1), version: 1)])
    // `following` returns although the confirmation never comes.
    nodes[1].fanout.follow([RoomID(1)])
    await nodes[1].fanout.following([RoomID(1)])
    for node in nodes { await node.fanout.stop() }
  }
}
