import Access
import Basics
import Database
import EventLoop
import Events
import Synchronization
import TestSupport

@testable import Accounts
@testable import Chat

/// Rooms and a log on one database, and everything that they published.
final class ChatWorld: Sendable {
  static let migrations = AccountSchema.migrations + ChatSchema.migrations

  let database: any SQLDatabase
  /// The database with the search index.
  let index: any SQLDatabase
  let clientKeys: ClientKeyIndex?
  let appender: LogAppender
  let rooms: Rooms
  let dialogs: Dialogs
  let teams: Teams
  let log: MessageLog
  let reader: LogReader
  let history: MessageHistory
  let indexer: SearchIndexer
  let expiry: MessageExpiry
  let memberships: MembershipDirectory
  let freshness: Freshness
  let authenticator = Sessions()
  let owner = Caller.foreign(UUID(high: 1, low: 1), level: 100)
  private let published = Mutex<[Event]>([])

  private static let pool = ThreadPool(name: "chat-tests", threads: 2, maximumWaiting: 1000)

  /// Knows ended sessions, and nothing else.
  final class Sessions: Authenticator {
    let ended = Mutex<Set<SessionID>>([])

    func authenticate(_ credential: Credential) async throws -> Caller {
      throw AppError(.invalidToken)
    }
    func check(_ caller: Caller) throws(AppError) {}
    func hasEnded(_ session: SessionID) -> Bool { ended.withLock { $0.contains(session) } }
    func noteUse(of caller: Caller) {}
  }

  /// Without `index` nothing may be indexed on SQLite.
  init(
    _ database: any SQLDatabase, index: (any SQLDatabase)? = nil,
    attachments: [any Attachments] = []
  ) {
    self.database = database
    self.index = index ?? database
    let events = EventStream(fanout: InProcessFanout())
    let unknown = UnknownEntries(log: .none, metrics: Metrics())
    freshness = Freshness(isShared: database.isShared)
    // Nothing compares here. Tests decide when a comparison is old.
    freshness.compared(at: UptimeClock.milliseconds + 3_600_000)
    memberships = MembershipDirectory(database: database, events: events)
    clientKeys = ClientKeyIndex(database, entriesPerMerge: 100)
    appender = LogAppender(events: events, clientKeys: clientKeys, attachments: attachments)
    let directory = RoomDirectory(database: database)
    reader = LogReader(database: database, directory: directory, unknown: unknown)
    history = MessageHistory(database: database, directory: directory, unknown: unknown)
    indexer = SearchIndexer(index: self.index, pool: Self.pool, events: events)
    expiry = MessageExpiry(
      database: database, directory: directory, appender: appender, deletedDays: 30)
    let circle = Circle(
      includesEveryone: false, rooms: RoomActs(database: database, directory: directory))
    rooms = Rooms(
      database: database, events: events, directory: directory, appender: appender,
      circle: circle,
      limits: RoomLimits(rules: 10, people: 50, roomsPerPerson: 1000, levelToCreate: 0))
    dialogs = Dialogs(database: database, rooms: rooms)
    teams = Teams(
      database: database, memberships: memberships,
      rooms: TeamChannels(rooms: rooms, appender: appender), circle: circle, maximumTeams: 20)
    log = MessageLog(
      database: database, events: events, appender: appender, authenticator: authenticator,
      freshness: freshness, metrics: ChatMetrics(Metrics()))
    events.listen { [weak self] events in
      guard let self else { return }
      for case .access(.affiliationsChanged(let user, let version)) in events {
        memberships.note(user, version: version)
      }
      published.withLock { $0 += events }
    }
  }

  func room(_ kind: RoomKind = .group, ttlSeconds: Int64? = nil) async throws -> Room {
    try await rooms.create(
      Rooms.NewRoom(name: "r", kind: kind, levelAdmin: 9, ttlSeconds: ttlSeconds), by: owner
    ).room
  }

  func draft(
    _ room: Room, _ data: String = "x", type: MessageType = .text, clientID: String? = nil,
    access: Draft.Access? = nil, from: UserID? = nil
  ) -> Draft {
    Draft(
      roomID: room.id, channelID: room.channelID, from: from ?? owner.userID,
      body: .message(MessageContent(type: type, data: data)), clientID: clientID,
      access: access ?? .granted(Draft.Grant(accessVersion: room.accessVersion)),
      origin: Origin(node: NodeID(1), loop: 0, socket: 1))
  }

  /// Submits drafts and waits for all outcomes; returns them in the order of the drafts.
  func submit(_ drafts: [Draft]) async throws -> [Event] {
    let before = events.count
    log.submit(drafts)
    try await eventually("every draft has an outcome") {
      events.count >= before + drafts.count
    }
    let outcomes = events[before...]
    // Two drafts may have the same id. Each takes the next outcome for it.
    var byID: [MessageID: [Event]] = [:]
    for event in outcomes {
      switch event {
      case .entry(let entry, _): byID[entry.id, default: []].append(event)
      case .receipt(let receipt): byID[receipt.draft.id, default: []].append(event)
      default: break
      }
    }
    return drafts.compactMap { byID[$0.id]?.removeFirst() }
  }

  /// Appends in a transaction of its own, as features do.
  func append(_ drafts: [Draft]) async throws -> [LogAppender.Outcome] {
    let appender = appender
    return try await database.write { try await appender.append(drafts, in: $0) }
  }

  /// Entries and receipts in the order of publication.
  var events: [Event] {
    published.withLock { events in
      events.filter { if case .access = $0 { false } else { true } }
    }
  }

  // MARK: Accounts

  /// An account that is in a team.
  func makeMember() async throws -> (UserID, TeamID) {
    let (user, team) = (UserID.make(), TeamID.make())
    try await database.write { transaction in
      _ = try await AccountStore.insert(
        User(id: user, email: "\(user)@example.org", name: "n", isPlatformAdmin: false),
        passwordHash: "h", at: .now, in: transaction)
      try await transaction.execute(
        "INSERT INTO teams (id, created_at) VALUES ($1, 1)", [.id(team)])
      try await AffiliationStore.setRole(.user, of: user, in: team, at: .now, transaction)
      try await self.memberships.changed([user], in: transaction)
    }
    return (user, team)
  }

  func remove(_ user: UserID, from team: TeamID) async throws {
    try await database.write { transaction in
      _ = try await AffiliationStore.remove(user, from: team, transaction)
      try await self.memberships.changed([user], in: transaction)
    }
  }
}
