import Access
import Basics
import Chat
import Events
import TestSupport
import Testing
import Web

@testable import Relay

/// A simulation of a whole relay in random order: clients connect and leave, write, subscribe and resume; rules,
/// accounts and tokens change; entries are lost between nodes, reads fail, readers are slow, and the gate closes.
@Suite struct RelayWorldTests {
  @Test(arguments: 1...UInt64(400))
  func `every interleaving keeps the promises of both protocols`(seed: UInt64) {
    let world = RelayWorld(seed: seed)
    for _ in 0..<3 { world.connect() }
    for _ in 0..<600 { world.step() }
    world.settle()
    world.writeToAll()
    #expect(world.followsWhatItServes)
    for (number, client) in world.clients.enumerated() {
      #expect(client.failures.isEmpty, "seed \(seed), \(number): \(client.failures.prefix(3))")
      guard client.isOpen else { continue }
      #expect(client.isReady, "seed \(seed), \(number)")
      #expect(client.early.isEmpty, "seed \(seed), \(number): \(client.early)")
      #expect(client.unanswered.isEmpty, "seed \(seed), \(number)")
      check(client, number, world, seed)
    }
    for (number, client) in world.nanoClients.enumerated() {
      #expect(client.failures.isEmpty, "seed \(seed), nano \(number): \(client.failures.prefix(3))")
      if client.isOpen { check(client, number, world, seed) }
    }
    // Everything about closed clients is forgotten.
    for client in world.clients where client.isOpen { client.sink.close(.normal) }
    for client in world.nanoClients where client.isOpen { client.sink.close(.normal) }
    for _ in 0..<100 { world.backend.pass(1) }
    let used = world.relay.feeds.rooms.filter { !$0.value.feed.isUnused }
    #expect(used.isEmpty, "seed \(seed): \(used.keys)")
    #expect(world.relay.feeds.listeners.isEmpty, "seed \(seed)")
  }

  @Test func `a frame that names many rooms is answered before the next one is begun`() {
    // This seed makes the relay perform one step per turn, of two rooms.
    let world = RelayWorld(seed: 1)
    let reader = RelayWorld.foreigners[0]
    let rooms = (1...3).map { RoomID($0) }
    for room in rooms { _ = world.database.setRule(reader, .read, in: room) }
    let client = world.connect(.foreign(reader), followsAllRooms: true)
    func settle() {
      while world.backend.hasPending { world.backend.answerOne(mayFail: false) }
      for _ in 0..<10 { world.backend.pass(1) }
      world.endTurn()
    }
    settle()
    #expect(client.cursors.count == 3)
    client.unsubscribe(rooms)
    client.subscribe([rooms[2]])
    settle()
    settle()
    #expect(client.failures == [])
    #expect(client.cursors.keys.sorted() == [rooms[2]])
  }

  @Test func `who resumes after a change of epoch waits for no reading of before`() {
    let world = RelayWorld(seed: 1)
    world.relay.feeds.replayReads.maximum = 1
    let reader = RelayWorld.foreigners[0]
    let room = RoomID(1)
    _ = world.database.setRule(reader, .read, in: room)
    _ = world.database.append(to: room)
    func resume(_ isAnswered: Bool) -> WorldClient {
      let client = world.connect(.foreign(reader), followsAllRooms: false)
      world.endTurn()
      client.resume(room, from: 0)
      // The first answer is the room, the next are pieces of its log.
      for _ in 0..<(isAnswered ? 5 : 1) where world.backend.hasPending {
        world.backend.answerOne(mayFail: false)
        for _ in 0..<5 { world.backend.pass(1) }
        world.endTurn()
      }
      return client
    }
    _ = resume(false)
    #expect(world.backend.hasPending)
    world.hear([.epochChanged("e")])
    let client = resume(true)
    #expect(client.failures == [])
    #expect(client.cursors == [room: 1])
  }

  @Test(arguments: [nil, Permissions.read, [.read, .write]])
  func `a replay waits while the rules of its room are read again`(then: Permissions?) throws {
    let world = RelayWorld(seed: 1)
    let reader = RelayWorld.foreigners[0]
    let room = RoomID(1)
    _ = world.database.setRule(reader, .read, in: room)
    _ = world.database.append(to: room)
    let client = world.connect(.foreign(reader), followsAllRooms: false)
    world.endTurn()
    client.resume(room, from: 0)
    world.backend.answerOne(mayFail: false)
    // A piece of the log is being read now. The change is announced by its version only, so the room must be read
    // again.
    let version = try #require(world.database.setRule(reader, then, in: room))
    world.hear([.access(.roomChanged(room, version: version))])
    world.backend.answerFirst()
    world.endTurn()
    #expect(client.cursors == [:])
    while world.backend.hasPending { world.backend.answerOne(mayFail: false) }
    for _ in 0..<5 { world.backend.pass(1) }
    world.endTurn()
    #expect(client.failures == [])
    #expect(client.cursors == (then == nil ? [:] : [room: 1]))
    #expect(client.lastCursors == [:])
  }

  @Test func `while a room waits for its rules, the socket's other rooms are made whole`() throws {
    let world = RelayWorld(seed: 1)
    let reader = RelayWorld.foreigners[0]
    let (waiting, other) = (RoomID(1), RoomID(2))
    for room in [waiting, other] {
      _ = world.database.setRule(reader, .read, in: room)
      _ = world.database.append(to: room)
    }
    let client = world.connect(.foreign(reader), followsAllRooms: false)
    world.endTurn()
    client.resume(waiting, from: 0)
    world.backend.answerFirst()
    let version = try #require(world.database.setRule(reader, [.read, .write], in: waiting))
    client.resume(other, from: 0)
    world.hear([.access(.roomChanged(waiting, version: version))])
    // The requests, in order: a piece of the first room's log, the second room, and the first room's rules.
    world.backend.answerFirst()
    for _ in 0..<5 { world.backend.pass(1) }
    world.backend.answerFirst()
    world.backend.answerLast()
    for _ in 0..<5 { world.backend.pass(1) }
    world.endTurn()
    #expect(client.cursors == [other: 1])
    while world.backend.hasPending {
      world.backend.answerFirst()
      for _ in 0..<5 { world.backend.pass(1) }
    }
    world.endTurn()
    #expect(client.failures == [])
    #expect(client.cursors == [waiting: 1, other: 1])
    #expect(world.relay.feeds.parked.isEmpty)
  }

  @Test func `frames that waited are served behind all that is being done, not within`() {
    let world = RelayWorld(seed: 1)
    let user = RelayWorld.locals[0]
    let rooms = [RoomID(1), RoomID(2)]
    for room in rooms { _ = world.database.setRule(RelayWorld.organizations[0], .read, in: room) }
    func settle() {
      while world.backend.hasPending { world.backend.answerOne(mayFail: false) }
    }
    let before = world.database.setAffiliations(UserID(user), [])
    let clients = (0..<5).map { _ in
      world.connect(.local(user, before, session: 0), followsAllRooms: true)
    }
    settle()
    world.relay.feeds.prepare(rooms)
    settle()
    world.endTurn()
    // The clients are told about newly readable rooms while frames of theirs still wait.
    let after = world.database.setAffiliations(UserID(user), [RelayWorld.organizations[0]])
    world.hear([.access(.affiliationsChanged(UserID(user), version: after.version))])
    world.backend.answerFirst()
    world.closeGate()
    for client in clients { client.subscribe(rooms.reversed()) }
    world.openGate()
    settle()
    for _ in 0..<10 { world.backend.pass(1) }
    world.endTurn()
    for client in clients {
      #expect(client.failures == [])
      #expect(client.cursors.keys.sorted() == rooms)
    }
  }

  @Test func `what was committed before a frame came counts for it`() throws {
    let world = RelayWorld(seed: 1)
    let reader = RelayWorld.foreigners[0]
    let room = RoomID(1)
    world.relay.feeds.prepare([room])
    while world.backend.hasPending { world.backend.answerOne(mayFail: false) }
    let client = world.connect(.foreign(reader), followsAllRooms: false)
    let version = try #require(world.database.setRule(reader, .read, in: room))
    world.backend.keep(try #require(world.database.room(room)))
    // The loop's job that applies these events has not run yet.
    #expect(world.relay.inbox.add([.access(.roomChanged(room, version: version))]))
    client.subscribe([room])
    world.endTurn()
    #expect(client.failures == [])
    #expect(client.cursors.keys.sorted() == [room])
  }

  /// Checks that the client has received the last entry of its room, and may read the room.
  private func check(_ client: WorldNanoClient, _ number: Int, _ world: RelayWorld, _ seed: UInt64)
  {
    guard let caller = client.socket.caller, let id = client.socket.dialect.room else { return }
    let mayRead = world.database.room(id).map {
      RuleEngine.standing(of: caller, in: $0).permissions.contains(.read)
    }
    #expect(mayRead == true, "seed \(seed), nano \(number): hears \(id) without the right")
    #expect(client.hears?.room == id, "seed \(seed), nano \(number)")
    #expect(
      client.hears?.seq == world.database.rooms[id]?.lastSeq,
      "seed \(seed), nano \(number): room \(id)")
  }

  /// Checks that the client has received everything in its rooms, and hears only rooms that it may read.
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
    guard client.followsAllRooms, !client.isUnsure else { return }
    for id in world.database.rooms.keys where !client.left.contains(id) {
      guard let room = world.database.room(id) else { continue }
      #expect(
        !RuleEngine.standing(of: caller, in: room).permissions.contains(.read)
          || client.cursors[id] != nil, "seed \(seed), \(number): does not hear \(id)")
    }
  }
}
