import Access
import Accounts
import Basics
import Database
import Events
import Synchronization
import TestSupport
import Testing

@testable import Chat

/// The log's contract, on every database.
@Suite struct MessageLogTests {
  /// A log with its rooms, and everything that it published.
  private final class World: Sendable {
    let database: any SQLDatabase
    let rooms: Rooms
    let log: MessageLog
    private let published: Mutex<[Event]>
    let owner = Caller(
      userID: UserID(UUID(high: 1, low: 1)), entities: [], level: 100, origin: .foreignToken,
      expiresAt: nil)

    init(_ database: any SQLDatabase) {
      self.database = database
      let events = EventStream(fanout: InProcessFanout())
      rooms = Rooms(
        database: database, events: events, directory: RoomDirectory(database: database),
        maximumRules: 10, levelToCreate: 0)
      log = MessageLog(database: database, events: events, metrics: ChatMetrics(Metrics()))
      published = Mutex([])
      events.listen { [weak self] events in self?.published.withLock { $0 += events } }
    }

    func room() async throws -> Room {
      try await rooms.create(
        Rooms.NewRoom(name: "r", type: .group, levelAdmin: 9, isByInvitation: false), by: owner
      ).room
    }

    func draft(
      _ room: Room, _ data: String = "x", clientID: String? = nil, id: MessageID = .make(),
      access: Draft.Access? = nil
    ) -> Draft {
      Draft(
        id: id, roomID: room.id, channelID: room.channelID, from: owner.userID, type: .text,
        data: data, clientID: clientID, access: access ?? .granted(version: room.accessVersion),
        origin: Origin(loop: 0, socket: 1))
    }

    /// Submits, and waits for the outcome of every draft, in the order of publication.
    func submit(_ drafts: [Draft]) async -> [Event] {
      let before = events.count
      log.submit(drafts)
      while events.count < before + drafts.count { await Task.yield() }
      return Array(events[before...])
    }

    var events: [Event] {
      published.withLock { events in
        events.filter { if case .access = $0 { false } else { true } }
      }
    }
  }

  private func with(
    _ kind: DatabaseKind, _ body: (World) async throws -> Void
  ) async throws {
    try await TestDatabase.with(kind, AccountSchema.migrations + ChatSchema.migrations) {
      try await body(World($0))
    }
  }

  private func entry(_ event: Event) -> Entry? {
    if case .entry(let entry, _) = event { entry } else { nil }
  }

  private func outcome(_ event: Event) -> String {
    guard case .receipt(let receipt) = event else { return "entry" }
    return switch receipt.outcome {
    case .known(let entry): "known \(entry.seq) \(entry.data)"
    case .conflict: "conflict"
    case .stale: "stale"
    case .denied(let code): code.wire
    case .unavailable: "unavailable"
    }
  }

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
      while world.events.count < 600 { await Task.yield() }
      let history = MessageHistory(database: world.database)
      for room in rooms {
        let published = world.events.compactMap(entry).filter { $0.roomID == room.id }
        #expect(published.map(\.seq) == Array(1...200))
        #expect(zip(published, published.dropFirst()).allSatisfy { $0.ts <= $1.ts })
        let stored = try await history.entries(in: room, after: 0, through: 200)
        #expect(stored.map(\.id) == published.map(\.id))
        #expect(stored.map(\.data) == published.map(\.data))
      }
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `a retry is the same message, in the same commit or later`(
    kind: DatabaseKind
  ) async throws {
    try await with(kind) { world in
      let room = try await world.room()
      let together = await world.submit([
        world.draft(room, "a", clientID: "k"), world.draft(room, "a", clientID: "k"),
        world.draft(room, "b", clientID: "k"), world.draft(room, "c", clientID: "\u{e9}"),
        world.draft(room, "d", clientID: "e\u{301}"),
      ])
      #expect(together.map(outcome) == ["entry", "known 1 a", "conflict", "entry", "entry"])
      let later = await world.submit([
        world.draft(room, "a", clientID: "k"), world.draft(room, "b", clientID: "k"),
        world.draft(room, "a", clientID: "k", access: .denied(.forbidden)),
        world.draft(room, "new", clientID: "n", access: .denied(.forbidden)),
      ])
      #expect(later.map(outcome) == ["known 1 a", "conflict", "known 1 a", "forbidden"])
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `a draft that is handed over twice enters once`(kind: DatabaseKind) async throws {
    try await with(kind) { world in
      let room = try await world.room()
      let draft = world.draft(room, "once")
      #expect(await world.submit([draft, draft]).map(outcome) == ["entry", "known 1 once"])
      let more = await world.submit([draft, world.draft(room, "next")])
      #expect(more.map(outcome) == ["known 1 once", "entry"])
      #expect(more.compactMap(entry).map(\.seq) == [2])
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `nothing enters under an older access version, nor after deletion`(
    kind: DatabaseKind
  ) async throws {
    try await with(kind) { world in
      let room = try await world.room()
      _ = try await world.rooms.setRule(
        UUID(high: 2, low: 2), permissions: .read, level: nil, in: room.id, by: world.owner)
      #expect(await world.submit([world.draft(room)]).map(outcome) == ["stale"])
      let now = try await world.rooms.view(room.id, as: world.owner, .read).room
      #expect(await world.submit([world.draft(now)]).map(outcome) == ["entry"])
      try await world.rooms.delete(room.id, by: world.owner)
      #expect(await world.submit([world.draft(now)]).map(outcome) == ["stale"])
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `history pages by seq and by time in both directions`(kind: DatabaseKind) async throws {
    try await with(kind) { world in
      let room = try await world.room()
      for number in 1...30 { _ = await world.submit([world.draft(room, "\(number)")]) }
      let history = MessageHistory(database: world.database)
      func page(_ change: (inout MessageHistory.Selection) -> Void) async throws -> [Int64] {
        var selection = MessageHistory.Selection(
          before: nil, after: nil, from: nil, to: nil, isAscending: false, limit: 5)
        change(&selection)
        return try await history.messages(in: room.id, as: world.owner, selection).map(\.seq)
      }
      // One more than the limit tells that there are more.
      #expect(try await page { _ in } == [30, 29, 28, 27, 26, 25])
      #expect(try await page { $0.before = 4 } == [3, 2, 1])
      #expect(
        try await page {
          $0.after = 27
          $0.isAscending = true
        } == [28, 29, 30])
      let all = try await history.entries(in: room, after: 0, through: 30)
      let tenth = all[9].ts
      let first = all.first { $0.ts >= tenth }?.seq ?? 0
      #expect(try await page { $0.from = tenth }.last == 25)
      #expect(
        try await page {
          $0.from = tenth
          $0.isAscending = true
        }.first == first)
      #expect(try await page { $0.to = tenth }.first == (first > 1 ? first - 1 : nil))
      #expect(try await page { $0.from = Timestamp(milliseconds: .max) } == [])
    }
  }
}
