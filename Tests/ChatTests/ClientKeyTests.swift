import Basics
import Database
import Events
import TestSupport
import Testing

@testable import Chat

/// A retry gets the entry that is in the log, wherever its key is stored by then.
@Suite(.serialized, .timeLimit(.minutes(5))) struct ClientKeyTests {
  private struct Failure: Error {}

  /// The idempotency key of a message.
  private struct Name: Hashable {
    let room: Int
    let sender: UInt64
    let number: Int

    var user: UserID { UserID(UUID(high: 5, low: sender)) }
    var clientID: String { "k\(number)" }

    static func random(_ random: inout SeededRandom) -> Name {
      Name(
        room: .random(in: 0..<3, using: &random), sender: .random(in: 1...2, using: &random),
        number: .random(in: 0..<60, using: &random))
    }
  }

  private func seq(_ event: Event) -> (seq: Int64, isNew: Bool)? {
    switch event {
    case .entry(let entry, _): (entry.seq, true)
    case .receipt(let receipt):
      if case .known(let entry) = receipt.outcome { (entry.seq, false) } else { nil }
    default: nil
    }
  }

  private func draft(_ name: Name, _ rooms: [Room], _ world: ChatWorld) -> Draft {
    world.draft(rooms[name.room], "of \(name)", clientID: name.clientID, from: name.user)
  }

  /// New messages, retries, failed transactions, merges and restarts, as a seed decides.
  @Test(arguments: DatabaseKind.allCases, 1...4)
  func `every key names one entry`(kind: DatabaseKind, seed: UInt64) async throws {
    try await TestDatabase.with(kind, ChatWorld.migrations) { database in
      var random = SeededRandom(seed: seed)
      var world = ChatWorld(database)
      let rooms = [try await world.room(), try await world.room(), try await world.room()]
      var seqs: [Name: Int64] = [:]
      var heads: [Int64] = [0, 0, 0]
      for _ in 0..<60 {
        let names = (0..<Int.random(in: 1...12, using: &random)).map { _ in Name.random(&random) }
        switch Int.random(in: 0..<10, using: &random) {
        case 0: try await world.clientKeys?.merge {}
        case 1:
          world = ChatWorld(database)
          try await world.clientKeys?.load()
        case 2, 3:
          let (appender, drafts) = (world.appender, names.map { draft($0, rooms, world) })
          await #expect(throws: Failure.self) {
            try await database.write { transaction in
              _ = try await appender.append(drafts, in: transaction)
              throw Failure()
            }
          }
        default:
          let outcomes = try await world.submit(names.map { draft($0, rooms, world) })
          #expect(outcomes.count == names.count)
          for (name, outcome) in zip(names, outcomes) {
            let (found, isNew) = try #require(seq(outcome))
            #expect(isNew == (seqs[name] == nil))
            if isNew { heads[name.room] += 1 }
            #expect(found == seqs[name] ?? heads[name.room])
            seqs[name] = found
          }
        }
      }
      try await world.clientKeys?.merge {}
      guard kind == .sqlite else { return }
      let kept = try await database.read {
        try await $0.query("SELECT count(*), sum(seq) FROM client_keys")
      }
      #expect(try kept.first?.integer(0) == Int64(seqs.count))
      #expect(try kept.first?.integer(1) == seqs.values.reduce(0, +))
      let left = ClientKeyIndex(database, entriesPerMerge: 1)
      try await left?.load()
      #expect(left?.isMergeDue == false)
    }
  }

  @Test func `a merge takes its time, and others write meanwhile, or the process ends`()
    async throws
  {
    try await TestDatabase.with(.sqlite, ChatWorld.migrations) { database in
      let world = ChatWorld(database)
      let keys = try #require(world.clientKeys)
      let room = try await world.room()
      func send(_ numbers: Range<Int>, by world: ChatWorld = world) async throws -> [Int64] {
        let outcomes = try await world.submit(
          numbers.map { world.draft(room, "m", clientID: "\($0)") })
        return outcomes.compactMap { seq($0)?.seq }
      }
      // With the same numbers as the keys, from 0 on.
      #expect(try await send(0..<2500) == Array(1...2500))
      #expect(keys.isMergeDue)
      var pauses = 0
      try await keys.merge {
        do {
          // Keys that are in the table, keys that are not, and a new one.
          #expect(try await send(0..<1) == [1])
          #expect(try await send(2499..<2500) == [2500])
          #expect(try await send((2500 + pauses)..<(2501 + pauses)) == [2501 + Int64(pauses)])
          // As after a crash at this moment.
          let another = ChatWorld(database)
          try await another.clientKeys?.load()
          #expect(try await send(0..<2500, by: another) == Array(1...2500))
        } catch { Issue.record(error) }
        pauses += 1
      }
      #expect(pauses == 2)
      #expect(!keys.isMergeDue)
      #expect(try await send(0..<2502) == Array(1...2502))
    }
  }

  @Test func `a merge that fails half way is finished by the next`() async throws {
    try await TestDatabase.with(.sqlite, ChatWorld.migrations) { database in
      let world = ChatWorld(database)
      let keys = try #require(world.clientKeys)
      var rooms: [Room] = []
      for _ in 0..<3 { rooms.append(try await world.room()) }
      func sendAll() async throws -> [Int64] {
        let outcomes = try await world.submit(
          (0..<1500).map { world.draft(rooms[$0 % 3], "m", clientID: "\($0 / 3)") })
        return outcomes.compactMap { seq($0)?.seq }
      }
      func kept() async throws -> Int64? {
        try await database.read {
          try await $0.first("SELECT count(*) FROM client_keys")?.integer(0)
        }
      }
      let seqs = (0..<1500).map { Int64($0 / 3 + 1) }
      #expect(try await sendAll() == seqs)
      try await database.write {
        _ = try await $0.execute(
          """
          CREATE TRIGGER refuse BEFORE UPDATE OF keyed_seq ON room_heads
          WHEN NEW.room_id = (SELECT max(room_id) FROM room_heads)
          BEGIN SELECT RAISE(ABORT, 'refused'); END
          """)
      }
      await #expect(throws: (any Error).self) { try await keys.merge {} }
      #expect(keys.isMergeDue)
      // The first transaction has a thousand entries; the second is refused.
      #expect(try await kept() == 1000)
      #expect(try await sendAll() == seqs)
      try await database.write { _ = try await $0.execute("DROP TRIGGER refuse") }
      try await keys.merge {}
      #expect(try await kept() == 1500)
      #expect(!keys.isMergeDue)
      #expect(try await sendAll() == seqs)
    }
  }

  /// Messages that a damaged file lost, or that are not kept any more, can be sent again.
  @Test(arguments: DatabaseKind.allCases)
  func `a message whose line was lost enters again`(kind: DatabaseKind) async throws {
    try await TestDatabase.with(kind, ChatWorld.migrations) { database in
      let world = ChatWorld(database)
      let room = try await world.room()
      func send(_ ids: [String]) async throws -> [Int64] {
        let outcomes = try await world.submit(ids.map { world.draft(room, "m", clientID: $0) })
        return outcomes.compactMap { seq($0)?.seq }
      }
      #expect(try await send(["a", "b", "c"]) == [1, 2, 3])
      try await world.clientKeys?.merge {}
      try await database.write { _ = try await $0.execute("DELETE FROM entries WHERE seq = 2") }
      #expect(try await send(["a", "b", "c", "d"]) == [1, 4, 3, 5])
      #expect(try await send(["b"]) == [4])
      try await world.clientKeys?.merge {}
      #expect(try await send(["b"]) == [4])
    }
  }

  @Test func `a start reads only what is behind the keys`() async throws {
    // Only literals can be SQL, so the statement is repeated here.
    let explanation: SQL = """
      EXPLAIN QUERY PLAN SELECT e.room_id, e.sender, e.client_id, e.seq
      FROM room_heads h CROSS JOIN entries e ON e.room_id = h.room_id AND e.seq > h.keyed_seq
      WHERE h.last_seq > h.keyed_seq AND e.client_id IS NOT NULL
      """
    #expect("\(explanation.sqlite)" == "EXPLAIN QUERY PLAN \(ClientKeyIndex.unmergedSQL.sqlite)")
    try await TestDatabase.with(.sqlite, ChatWorld.migrations) { database in
      let plan = try await database.read { transaction in
        try await transaction.query(explanation).map { try $0.text(3) }
      }
      #expect(plan.contains { $0.hasPrefix("SEARCH e USING PRIMARY KEY (room_id=? AND seq>?)") })
    }
  }

  @Test func `rooms whose senders use no client ids are merged as well`() async throws {
    try await TestDatabase.with(.sqlite, ChatWorld.migrations) { database in
      let world = ChatWorld(database)
      let room = try await world.room()
      _ = try await world.submit((0..<150).map { _ in world.draft(room, "m") })
      #expect(world.clientKeys?.isMergeDue == true)
      try await world.clientKeys?.merge {}
      let left = ClientKeyIndex(database, entriesPerMerge: 1)
      try await left?.load()
      #expect(left?.isMergeDue == false)
    }
  }
}
