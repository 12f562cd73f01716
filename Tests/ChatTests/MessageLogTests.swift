import Access
import Accounts
import Basics
import Database
import Events
import Synchronization
import TestSupport
import Testing

@testable import Chat

/// The contract of the log, on every database.
@Suite(.timeLimit(.minutes(5))) struct MessageLogTests {
  private func with(
    _ kind: DatabaseKind, attachments: [any Attachments] = [],
    _ body: (ChatWorld) async throws -> Void
  ) async throws {
    try await TestDatabase.with(kind, ChatWorld.migrations) {
      try await body(ChatWorld($0, attachments: attachments))
    }
  }

  private func entry(_ event: Event) -> Entry? {
    if case .entry(let entry, _) = event { entry } else { nil }
  }

  private func text(_ entry: Entry) -> String {
    if case .message(let content) = entry.body { content.data } else { "\(entry.body)" }
  }

  private func outcome(_ event: Event) -> String {
    guard case .receipt(let receipt) = event else { return "entry" }
    return switch receipt.outcome {
    case .known(let entry): "known \(entry.seq) \(text(entry))"
    case .conflict: "conflict"
    case .stale: "stale"
    case .denied(let code): code.wire
    case .unavailable: "unavailable"
    }
  }

  // MARK: Order and retries

  @Test(arguments: DatabaseKind.allCases)
  func `seqs count from 1 without gaps in every room, whoever sends`(
    kind: DatabaseKind
  ) async throws {
    try await with(kind) { world in
      let rooms = [try await world.room(), try await world.room(), try await world.room()]
      await withTaskGroup { group in
        for sender in 0..<4 {
          group.addTask {
            for number in 0..<50 {
              world.log.submit(rooms.map { world.draft($0, "\(sender) \(number)") })
              await Task.yield()
            }
          }
        }
      }
      try await eventually("all 600 have an outcome") { world.events.count >= 600 }
      for room in rooms {
        let published = world.events.compactMap(entry).filter { $0.roomID == room.id }
        #expect(published.map(\.seq) == Array(1...200))
        #expect(published.map(\.ordinal) == Array(1...200))
        #expect(zip(published, published.dropFirst()).allSatisfy { $0.ts <= $1.ts })
        let stored = try await world.reader.entries(in: room, after: 0, through: 200)
        #expect(stored.map(\.id) == published.map(\.id))
        #expect(stored.map(text) == published.map(text))
      }
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `a retry is the same message, in the same commit or later`(
    kind: DatabaseKind
  ) async throws {
    try await with(kind) { world in
      let room = try await world.room()
      let together = try await world.submit([
        world.draft(room, "a", clientID: "k"), world.draft(room, "a", clientID: "k"),
        world.draft(room, "b", clientID: "k"), world.draft(room, "c", clientID: "\u{e9}"),
        world.draft(room, "d", clientID: "e\u{301}"),
      ])
      #expect(together.map(outcome) == ["entry", "known 1 a", "conflict", "entry", "entry"])
      let later = try await world.submit([
        world.draft(room, "a", clientID: "k"), world.draft(room, "b", clientID: "k"),
        world.draft(room, "a", clientID: "k", access: .denied(.forbidden)),
        world.draft(room, "new", clientID: "n", access: .denied(.forbidden)),
      ])
      #expect(later.map(outcome) == ["known 1 a", "conflict", "known 1 a", "forbidden"])
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `retries among many new messages take none of them along`(
    kind: DatabaseKind
  ) async throws {
    try await with(kind) { world in
      let room = try await world.room()
      _ = try await world.submit([world.draft(room, "first", clientID: "0")])
      // The second batch finds the retry by the index; later ones look it up before they write.
      for round in 1...3 {
        let outcomes = try await world.submit(
          (0..<200).map { number in
            number % 50 == 7
              ? world.draft(room, "first", clientID: "0")
              : world.draft(room, "m", clientID: "\(round) \(number)")
          }
        ).map(outcome)
        #expect(outcomes.filter { $0 == "known 1 first" }.count == 4)
        #expect(outcomes.filter { $0 == "entry" }.count == 196)
      }
      let all = try await world.reader.entries(in: room, after: 0, through: 1000)
      #expect(all.map(\.seq) == Array(1...589))
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `a draft that is handed over twice enters once`(kind: DatabaseKind) async throws {
    try await with(kind) { world in
      let room = try await world.room()
      let draft = world.draft(room, "once")
      #expect(try await world.submit([draft, draft]).map(outcome) == ["entry", "known 1 once"])
      let more = try await world.submit([draft, world.draft(room, "next")])
      #expect(more.map(outcome) == ["known 1 once", "entry"])
      #expect(more.compactMap(entry).map(\.seq) == [2])
    }
  }

  // MARK: Permissions, verified inside the commit

  @Test(arguments: DatabaseKind.allCases)
  func `nothing enters under an older access version, nor after deletion`(
    kind: DatabaseKind
  ) async throws {
    try await with(kind) { world in
      let room = try await world.room()
      _ = try await world.rooms.setRule(
        UUID(high: 2, low: 2), permissions: .read, level: nil, in: room.id, by: world.owner)
      #expect(try await world.submit([world.draft(room)]).map(outcome) == ["stale"])
      let now = try await world.rooms.view(room.id, as: world.owner, .read).room
      #expect(try await world.submit([world.draft(now)]).map(outcome) == ["entry"])
      try await world.rooms.delete(room.id, by: world.owner)
      #expect(try await world.submit([world.draft(now)]).map(outcome) == ["stale"])
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `a membership that was taken away while its member's message waited counts`(
    kind: DatabaseKind
  ) async throws {
    try await with(kind) { world in
      let room = try await world.room()
      let (ada, team) = try await world.makeMember()
      func draft(_ version: Int64?) -> Draft {
        world.draft(
          room,
          access: .granted(
            Draft.Grant(accessVersion: room.accessVersion, affiliationsVersion: version)),
          from: ada)
      }
      let version = try await world.memberships.affiliations(of: ada).version
      #expect(try await world.submit([draft(version)]).map(outcome) == ["entry"])
      try await world.remove(ada, from: team)
      // These were checked before the change and committed after it. A draft that does not depend on it is accepted.
      #expect(
        try await world.submit([draft(version), draft(nil)]).map(outcome) == ["stale", "entry"])
      let now = try await world.memberships.affiliations(of: ada)
      #expect(now.version > version && now.teams.isEmpty)
      #expect(try await world.submit([draft(now.version)]).map(outcome) == ["entry"])
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `a session that ended while its message waited writes nothing`(
    kind: DatabaseKind
  ) async throws {
    try await with(kind) { world in
      let room = try await world.room()
      let session = SessionID.make()
      let draft = world.draft(
        room,
        access: .granted(Draft.Grant(accessVersion: room.accessVersion, session: session)))
      #expect(try await world.submit([draft]).map(outcome) == ["entry"])
      world.authenticator.ended.withLock { _ = $0.insert(session) }
      let later = world.draft(
        room,
        access: .granted(Draft.Grant(accessVersion: room.accessVersion, session: session)))
      #expect(try await world.submit([later]).map(outcome) == ["invalid_token"])
    }
  }

  @Test func `a node that knows too little writes when it knows again`() async throws {
    try await with(.postgres) { world in
      let room = try await world.room()
      world.freshness.compared(at: UptimeClock.milliseconds - 5000)
      let before = world.events.count
      world.log.submit([world.draft(room)])
      // The group commit tried and postponed it. A later transaction is not held up.
      _ = try await world.rooms.view(room.id, as: world.owner, .read)
      #expect(world.events.count == before)
      #expect(world.log.isExpecting(room.id))
      world.freshness.compared(at: UptimeClock.milliseconds + 60_000)
      try await eventually("it has an outcome") { world.events.count > before }
      #expect(world.events.map(outcome) == ["entry"])
    }
  }

  @Test func `what a node knows must still be recent when it commits`() async throws {
    try await with(.postgres) { world in
      let room = try await world.room()
      let before = world.events.count
      // Valid for another 300 ms, but the room's head is locked for longer.
      world.freshness.compared(at: UptimeClock.milliseconds - 600)
      try await world.database.write { transaction in
        _ = try await world.rooms.directory.readForUpdate(room.id, in: transaction)
        world.log.submit([world.draft(room)])
        _ = try await transaction.query("SELECT 1 FROM pg_sleep(0.6)")
      }
      // It is retried again and again, and not kept.
      try await Task.sleep(for: .milliseconds(200))
      #expect(world.events.count == before)
      world.freshness.compared(at: UptimeClock.milliseconds + 60_000)
      try await eventually("it has an outcome") { world.events.count > before }
      #expect(world.events.map(outcome) == ["entry"])
    }
  }

  /// Delivery waits for more messages of a room only while some are on their way.
  @Test(arguments: DatabaseKind.allCases)
  func `what is published is expected no more`(kind: DatabaseKind) async throws {
    try await with(kind) { world in
      let (room, quiet) = (try await world.room(), try await world.room())
      for access in [
        Draft.Access.granted(Draft.Grant(accessVersion: room.accessVersion)),
        .granted(Draft.Grant(accessVersion: 99)), .denied(.forbidden),
      ] {
        _ = try await world.submit((0..<5).map { _ in world.draft(room, access: access) })
        #expect(!world.log.isExpecting(room.id))
      }
      #expect(!world.log.isExpecting(quiet.id))
    }
  }

  // MARK: Refused rows

  @Test(arguments: DatabaseKind.allCases)
  func `a row that the database refuses fails alone among two thousand`(
    kind: DatabaseKind
  ) async throws {
    try await with(kind) { world in
      var rooms: [Room] = []
      for _ in 0..<8 { rooms.append(try await world.room()) }
      try await world.database.write(.ordinary) { try await $0.execute(Self.poisonSQL) }
      if kind == .postgres {
        try await world.database.write(.ordinary) { try await $0.execute(Self.poisonTriggerSQL) }
      }
      let outcomes = try await world.submit(
        (0..<2048).map { number in
          world.draft(rooms[number % 8], [777, 1500].contains(number) ? "poison" : "fine")
        }
      ).map(outcome)
      #expect(outcomes.filter { $0 == "unavailable" }.count == 2)
      #expect(outcomes.filter { $0 == "entry" }.count == 2046)
      for (index, room) in rooms.enumerated() {
        let stored = try await world.reader.entries(in: room, after: 0, through: 300)
        // Draft 777 is in room 1, draft 1500 in room 4.
        #expect(stored.map(\.seq) == Array(1...([1, 4].contains(index) ? 255 : 256)))
        #expect(stored.allSatisfy { text($0) == "fine" })
      }
    }
  }

  private static let poisonSQL = SQL(
    sqlite: """
      CREATE TRIGGER poison BEFORE INSERT ON contents WHEN NEW.data = 'poison'
      BEGIN SELECT RAISE(ABORT, 'poison'); END
      """,
    postgres: """
      CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN IF NEW.data = 'poison' THEN RAISE EXCEPTION 'poison'; END IF; RETURN NEW; END $$
      """)
  private static let poisonTriggerSQL: SQL = """
    CREATE TRIGGER poison BEFORE INSERT ON contents FOR EACH ROW EXECUTE FUNCTION poison()
    """

  // MARK: Kinds

  @Test(arguments: DatabaseKind.allCases)
  func `entries of every kind come back as they went in, and ordinals count messages`(
    kind: DatabaseKind
  ) async throws {
    try await with(kind) { world in
      let room = try await world.room()
      let bodies: [EntryBody] = [
        .message(MessageContent(type: .text, data: "one")),
        .edit(of: 1, data: "two", mentions: nil),
        .reaction(to: 1, emoji: "\u{1F44D}", isRemoved: false),
        .reaction(to: 1, emoji: "\u{1F44D}", isRemoved: true),
        .message(MessageContent(type: .text, data: "three")), .deletion(of: 1),
        .event(RoomEvent(.joined, subject: UserID(UUID(high: 3, low: 3)))),
        .event(RoomEvent(.renamed, name: "war \"room\"")),
        .message(MessageContent(type: .text, data: "four")),
      ]
      let outcomes = try await world.append(
        bodies.map { body in
          Draft(
            roomID: room.id, channelID: room.channelID,
            from: body.isRoomEvent ? nil : world.owner.userID, body: body, access: .decided)
        })
      let stored = try await world.reader.entries(in: room, after: 0, through: 99)
      var present = bodies
      // The first message is deleted in the same commit, so neither it nor its edit has a text.
      present[0] = .erased(.text)
      present[1] = .edit(of: 1, data: nil, mentions: nil)
      #expect(stored.map(\.body) == present)
      #expect(stored.map(\.seq) == Array(1...9))
      #expect(stored.map(\.ordinal) == [1, 1, 1, 1, 2, 2, 2, 2, 3])
      #expect(stored.map { $0.from == nil } == bodies.map(\.isRoomEvent))
      let entered = outcomes.compactMap { outcome -> Entry? in
        if case .entered(let entry) = outcome { entry } else { nil }
      }
      #expect(entered.map(\.ordinal) == stored.map(\.ordinal))
      // The group commit continues from there.
      _ = try await world.submit([world.draft(room, "five")])
      let last = try await world.reader.entries(in: room, after: 9, through: 99)
      #expect(last.map(\.seq) == [10] && last.map(\.ordinal) == [4])
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `a rule and the event that tells of it are one commit`(kind: DatabaseKind) async throws {
    struct Stop: Error {}
    try await with(kind) { world in
      let room = try await world.room()
      let bob = UUID(high: 2, low: 2)
      func change(fails: Bool) async throws {
        let appender = world.appender
        try await world.database.write { transaction in
          guard let room = try await world.rooms.directory.readForUpdate(room.id, in: transaction)
          else {
            return
          }
          try await RoomStore.put(
            RoomRule(subject: bob, permissions: .read, level: 0, isAccepted: true), in: room.id,
            transaction)
          _ = try await RoomStore.raiseAccessVersion(room.id, in: transaction)
          try await appender.append(
            [
              Draft(
                roomID: room.id, channelID: room.channelID, from: nil,
                body: .event(RoomEvent(.added, subject: UserID(bob))), access: .decided)
            ], in: transaction)
          if fails { throw Stop() }
        }
      }
      await #expect(throws: Stop.self) { try await change(fails: true) }
      #expect(world.events.isEmpty)
      #expect(try await world.reader.lastSeqs([room.id]) == [room.id: 0])
      try await change(fails: false)
      #expect(world.events.compactMap(entry).map(\.seq) == [1])
      let view = try await world.rooms.view(room.id, as: world.owner, .read)
      #expect(view.room.rule(for: bob) != nil && view.lastSeq == 1)
      // Drafts that were checked before the rule are stale, and the next message gets the next seq.
      #expect(try await world.submit([world.draft(room)]).map(outcome) == ["stale"])
      #expect(try await world.submit([world.draft(view.room)]).compactMap(entry).map(\.seq) == [2])
    }
  }

  // MARK: Attachments

  /// Things that can be attached once each, in a table of the test.
  private struct Things: Attachments {
    let types: Set<MessageType> = [.file, .audio]
    let calls = Counter()

    func decide(
      _ claims: [AttachmentClaim], in transaction: Transaction
    ) async throws -> [AttachmentVerdict] {
      calls.add()
      let found = try await transaction.pipeline(
        claims.map {
          Statement("SELECT name FROM things WHERE name = $1", [.text($0.reference)])
        })
      return zip(claims, found).map { claim, result in
        guard !result.rows.isEmpty else { return .refused(.attachmentNotFound) }
        return .granted([
          Statement(
            "UPDATE things SET message = $2 WHERE name = $1",
            [.text(claim.reference), .id(claim.message)])
        ])
      }
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `a feature decides on what messages claim, and its rows change in their commit`(
    kind: DatabaseKind
  ) async throws {
    let things = Things()
    try await with(kind, attachments: [things]) { world in
      let room = try await world.room()
      try await world.database.write(.ordinary) { try await $0.execute(Self.thingsSQL) }
      try await world.database.write(.bulk(bytes: 100)) {
        try await $0.execute("INSERT INTO things (name) VALUES ('map'), ('song'), ('spare')")
      }
      let outcomes = try await world.submit([
        world.draft(room, "map", type: .file), world.draft(room, "nothing", type: .file),
        world.draft(room, "just text"), world.draft(room, "song", type: .audio, clientID: "s"),
        world.draft(room, "spare", type: .audio, clientID: "s"),
        world.draft(room, "cat", type: .image),
      ])
      #expect(
        outcomes.map(outcome) == [
          "entry", "attachment_not_found", "entry", "entry", "conflict", "attachment_not_found",
        ])
      #expect(things.calls.current == 1, "one call for all of a commit")
      // A message in the log claims nothing again, and is still the same message.
      let retries = try await world.submit([
        world.draft(room, "song", type: .audio, clientID: "s"),
        world.draft(room, "cat", type: .image, clientID: "s"),
      ])
      #expect(retries.map(outcome) == ["known 3 song", "conflict"])
      #expect(things.calls.current == 1)
      let rows = try await world.database.read {
        try await $0.query("SELECT name, message FROM things ORDER BY name")
      }
      let ids = outcomes.compactMap(entry).map(\.id)
      let claimed: [MessageID?] = try rows.map { row in try row.optional(1) { try row.id($0) } }
      // `map` by the file, `song` by the sound, `spare` by none.
      #expect(claimed == [ids[0], ids[2], nil])
    }
  }

  private static let thingsSQL = SQL(
    sqlite: "CREATE TABLE things (name TEXT PRIMARY KEY, message BLOB)",
    postgres: "CREATE TABLE things (name TEXT PRIMARY KEY, message BYTEA)")

  // MARK: Losses

  /// Messages lock heads first, then memberships. A feature that locked in the other order could deadlock with them.
  @Test(arguments: DatabaseKind.allCases)
  func `whoever locks out of order is told at once`(kind: DatabaseKind) async throws {
    try await TestDatabase.with(kind, ChatWorld.migrations) { database in
      let world = ChatWorld(database)
      let room = try await world.room()
      let (member, _) = try await world.makeMember()
      let entry = world.draft(room, access: .decided)
      try await database.write { transaction in
        _ = try await world.appender.append([entry], in: transaction)
        try await world.memberships.changed([member], in: transaction)
      }
      await #expect(throws: DatabaseError.self) {
        try await database.write { transaction in
          try await world.memberships.changed([member], in: transaction)
          _ = try await world.appender.append(
            [world.draft(room, access: .decided)], in: transaction)
        }
      }
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `no seq is ever left out`(kind: DatabaseKind) async throws {
    try await with(kind) { world in
      let room = try await world.room()
      for number in 1...8 { _ = try await world.submit([world.draft(room, "\(number)")]) }
      let ids = world.events.compactMap(entry).map(\.id)
      try await world.database.write { transaction in
        // A lost content, a destroyed one, a kind of a newer release, a missing row in the middle, and one at the
        // end.
        try await transaction.execute("DELETE FROM contents WHERE id = $1", [.id(ids[1])])
        try await transaction.execute("DELETE FROM contents WHERE id = $1", [.id(ids[2])])
        try await transaction.execute("UPDATE entries SET erased_at = 1 WHERE seq = 3")
        try await transaction.execute("UPDATE entries SET type = 77 WHERE seq = 4")
        try await transaction.execute("DELETE FROM entries WHERE seq IN (6, 8)")
      }
      let entries = try await world.reader.entries(in: room, after: 0, through: 8)
      #expect(entries.map(\.seq) == Array(1...8))
      #expect(
        entries.map(\.body) == [
          .message(MessageContent(type: .text, data: "1")), .unknown(code: 0), .erased(.text),
          .unknown(code: 77), .message(MessageContent(type: .text, data: "5")), .unknown(code: -1),
          .message(MessageContent(type: .text, data: "7")), .unknown(code: -1),
        ])
      #expect(zip(entries, entries.dropFirst()).allSatisfy { $0.ts <= $1.ts })
      // Above the head there is nothing, not even lost entries.
      #expect(try await world.reader.entries(in: room, after: 8, through: 20).isEmpty)
      let pages = try await world.history.messages(in: room.id, as: world.owner, .latest(20))
      #expect(pages.messages.map(\.entry.seq) == [7, 5, 4, 3, 2, 1])
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `what one reading brings is bounded in bytes`(kind: DatabaseKind) async throws {
    try await with(kind) { world in
      let room = try await world.room()
      let large = String(repeating: "\u{e9}", count: 10_000)
      _ = try await world.submit((0..<60).map { _ in world.draft(room, large) })
      var after: Int64 = 0
      var readings = 0
      while after < 60 {
        let some = try await world.reader.entries(
          in: room, after: after, through: 60, bytes: 100_000)
        #expect((1...6).contains(some.count))
        #expect(some.first?.seq == after + 1)
        after = some.last?.seq ?? 60
        readings += 1
      }
      #expect(readings >= 10)
      // An entry that is larger than the limit is returned alone.
      let one = try await world.reader.entries(in: room, after: 3, through: 60, bytes: 1)
      #expect(one.map(\.seq) == [4])
      let page = try await world.history.messages(in: room.id, as: world.owner, .latest(200))
      #expect(page.hasMore && page.messages.first?.entry.seq == 60)
      #expect(page.messages.reduce(0) { $0 + $1.entry.body.contentBytes } < 600_000)
    }
  }

  // MARK: History

  @Test(arguments: DatabaseKind.allCases)
  func `history pages by seq and by time in both directions`(kind: DatabaseKind) async throws {
    try await with(kind) { world in
      let room = try await world.room()
      for number in 1...30 { _ = try await world.submit([world.draft(room, "\(number)")]) }
      func page(
        _ change: (inout MessageHistory.Selection) -> Void
      ) async throws -> (seqs: [Int64], hasMore: Bool) {
        var selection = MessageHistory.Selection.latest(5)
        change(&selection)
        let page = try await world.history.messages(in: room.id, as: world.owner, selection)
        return (page.messages.map(\.entry.seq), page.hasMore)
      }
      #expect(try await page { _ in } == ([30, 29, 28, 27, 26], true))
      #expect(try await page { $0.before = 4 } == ([3, 2, 1], false))
      #expect(try await page { $0.before = 6 } == ([5, 4, 3, 2, 1], false))
      #expect(
        try await page {
          $0.after = 27
          $0.isAscending = true
        } == ([28, 29, 30], false))
      #expect(
        try await page {
          $0.after = 24
          $0.isAscending = true
        } == ([25, 26, 27, 28, 29], true))
      let all = try await world.reader.entries(in: room, after: 0, through: 30)
      let tenth = all[9].ts
      let first = all.first { $0.ts >= tenth }?.seq ?? 0
      #expect(try await page { $0.from = tenth }.seqs.last == 26)
      #expect(
        try await page {
          $0.from = tenth
          $0.isAscending = true
        }.seqs.first == first)
      #expect(try await page { $0.to = tenth }.seqs.first == (first > 1 ? first - 1 : nil))
      #expect(try await page { $0.from = Timestamp(milliseconds: .max) } == ([], false))
    }
  }
}

extension MessageHistory.Selection {
  static func latest(_ limit: Int) -> Self {
    Self(before: nil, after: nil, from: nil, to: nil, isAscending: false, limit: limit)
  }
}

extension EntryBody {
  fileprivate var isRoomEvent: Bool { if case .event = self { true } else { false } }
}
