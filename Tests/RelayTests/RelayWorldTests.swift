import Access
import Basics
import Chat
import TestSupport
import Testing
import Web

@testable import Relay

/// A whole relay in every order: clients come and go, write, subscribe and resume; rules, accounts and
/// tokens change; entries get lost between nodes, readings fail, readers are slow, the gate closes.
@Suite struct RelayWorldTests {
  @Test(arguments: 1...UInt64(400))
  func `every interleaving keeps the promises of relay v1`(seed: UInt64) {
    let world = RelayWorld(seed: seed)
    for _ in 0..<3 { world.connect() }
    for _ in 0..<600 { world.step() }
    world.settle()
    for (number, client) in world.clients.enumerated() {
      #expect(client.failures.isEmpty, "seed \(seed), \(number): \(client.failures.prefix(3))")
      guard client.isOpen else { continue }
      #expect(client.isReady, "seed \(seed), \(number)")
      #expect(client.early.isEmpty, "seed \(seed), \(number): \(client.early)")
      #expect(client.unanswered.isEmpty, "seed \(seed), \(number)")
      check(client, number, world, seed)
    }
    // Who is gone is forgotten everywhere.
    for client in world.clients where client.isOpen { client.sink.close(.normal) }
    for _ in 0..<100 { world.backend.pass(1) }
    let used = world.relay.feeds.rooms.filter { !$0.value.feed.isUnused }
    #expect(used.isEmpty, "seed \(seed): \(used.keys)")
    #expect(world.relay.feeds.listeners.isEmpty, "seed \(seed)")
  }

  /// A client has all of the rooms that it hears, and hears only those that it may.
  private func check(_ client: WorldClient, _ number: Int, _ world: RelayWorld, _ seed: UInt64) {
    guard let caller = client.socket.caller else { return }
    for (id, cursor) in client.cursors {
      guard let room = world.database.room(id) else {
        Issue.record("seed \(seed), \(number): hears \(id), which is deleted")
        continue
      }
      #expect(
        RuleEngine.standing(of: caller, in: room).permissions.contains(.read),
        "seed \(seed), \(number): hears \(id) without the right")
      #expect(
        cursor == world.database.rooms[id]?.lastSeq, "seed \(seed), \(number): room \(id)")
    }
  }
}
