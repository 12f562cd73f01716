internal import Access
internal import Accounts
internal import Basics
internal import Chat
internal import Database
internal import EventLoop
internal import Events
internal import Presence

/// The services behind the routes, wired together. Made for a server that runs, and for one whose routes are only
/// described.
struct Features: Sendable {
  let accounts: AccountService
  let memberships: MembershipDirectory
  let directory: RoomDirectory
  let teams: Teams
  let rooms: Rooms
  let dialogs: Dialogs
  let history: MessageHistory
  let references: MessageReferences
  let marks: ReadMarks
  let ownMarks: OwnMarks
  let roomList: RoomList
  let search: Search
  let indexer: SearchIndexer
  let expiry: MessageExpiry
  let reader: LogReader
  let presenceReader: PresenceReader
  let people: PeopleDirectory
  let blocks: Blocks
  let administration: AccountAdministration
  let auditTrail: AuditTrail
  let reports: Reports
  let moderation: Moderation
  let erasure: AccountErasure
  private let database: any SQLDatabase

  init(
    settings: Settings, database: any SQLDatabase, searchIndex: any SQLDatabase,
    events: EventStream, appender: LogAppender, tokens: LocalTokens, hashing: ThreadPool,
    computing: ThreadPool, background: ThreadPool, metrics: Metrics, log: Log
  ) {
    self.database = database
    memberships = MembershipDirectory(database: database, events: events)
    accounts = AccountService(
      database: database, events: events, tokens: tokens, memberships: memberships,
      hashing: hashing, configuration: settings.accounts, metrics: AccountMetrics(metrics), log: log
    )
    directory = RoomDirectory(database: database)
    let configuration = settings.accounts
    let circle = Circle(
      includesEveryone: configuration.directory == .everyone,
      rooms: RoomActs(database: database, directory: directory))
    presenceReader = PresenceReader(database: database, circle: circle)
    people = PeopleDirectory(database: database, circle: circle)
    rooms = Rooms(
      database: database, events: events, directory: directory, appender: appender,
      circle: circle, limits: settings.rooms)
    blocks = Blocks(database: database, dialogs: rooms)
    dialogs = Dialogs(database: database, rooms: rooms)
    teams = Teams(
      database: database, memberships: memberships,
      rooms: TeamChannels(rooms: rooms, appender: appender), circle: circle,
      maximumTeams: configuration.teamsPerPerson)
    administration = AccountAdministration(
      database: database, events: events, memberships: memberships)
    auditTrail = AuditTrail(database: database)
    erasure = AccountErasure(
      database: database, events: events, accounts: accounts, memberships: memberships,
      teams: teams, rooms: RoomErasure(database: database, rooms: rooms))
    let unknown = UnknownEntries(log: log, metrics: metrics)
    history = MessageHistory(database: database, directory: directory, unknown: unknown)
    reports = Reports(database: database, history: history)
    moderation = Moderation(database: database, index: searchIndex, rooms: rooms)
    marks = ReadMarks(database: database, directory: directory, events: events)
    ownMarks = OwnMarks(database: database, events: events)
    roomList = RoomList(database: database, rooms: rooms, history: history, events: events)
    search = Search(index: searchIndex, rooms: rooms, history: history, pool: computing)
    indexer = SearchIndexer(index: searchIndex, pool: background, events: events)
    expiry = MessageExpiry(
      database: database, directory: directory, appender: appender,
      deletedDays: settings.deletedDays == 0 ? nil : Int64(settings.deletedDays))
    references = MessageReferences(
      database: database, directory: directory, memberships: memberships)
    reader = LogReader(database: database, directory: directory, unknown: unknown)
  }

  /// What people get of everything that is kept about them.
  func export(authenticator: any Authenticator, pool: ThreadPool) -> AccountExport {
    AccountExport(
      authenticator: authenticator, pool: pool,
      parts: [
        AccountExportPart(database: database),
        ChatExportPart(database: database, rooms: rooms, history: history),
      ])
  }

  /// The way of requests to the log. Must be made before the first event is published.
  func writer(ingest: any Ingest, events: EventStream, node: NodeID) -> MessageWriter {
    MessageWriter(
      database: database, directory: directory, memberships: memberships, references: references,
      dialogs: dialogs, ingest: ingest, events: events, node: node)
  }
}
