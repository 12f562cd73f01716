internal import Access
internal import Accounts
package import Basics
internal import Chat
internal import Crypto
internal import Database
internal import EventLoop
internal import Events
internal import Live
internal import Presence
internal import Relay
package import Web

/// The whole server: built from settings, started, and drained. The only place that knows all parts.
package final class MartletServer: Sendable {
  private let settings: Settings
  private let log: Log
  private let metrics = Metrics()
  private let health: Health
  private let group: LoopGroup
  private let hashing: ThreadPool
  /// For computations that would block a loop: compression, large JSON, cleaning up.
  private let computing = ThreadPool(
    name: "compute", threads: 1, maximumWaiting: 64, maximumWaitingForOne: 16)
  /// For computations that may be a moment late: the search index, exports.
  private let background = ThreadPool(
    name: "background", threads: 1, maximumWaiting: 1000, priority: .background)
  private let openFileLimit: Int

  /// How long the same keys are used for tickets of TLS sessions.
  private static let ticketKeyMilliseconds = 12 * 3_600_000

  package init(settings: Settings, log: Log) {
    self.settings = settings
    self.log = log
    health = Health(log: log)
    openFileLimit = ProcessLimits.raiseOpenFiles()
    group = LoopGroup(
      count: settings.loops ?? ProcessLimits.cores, keepsProcessors: settings.keepsProcessors)
    hashing = ThreadPool(
      name: "password", threads: settings.passwordHashers, maximumWaiting: 256,
      maximumWaitingForOne: 64)
  }

  /// The parts of a started server.
  package struct Running: Sendable {
    /// For example `http://127.0.0.1:8080`.
    package let url: String
    fileprivate let web: WebServer
    fileprivate let metricsWeb: WebServer?
    fileprivate let database: any SQLDatabase
    fileprivate let searchIndex: any SQLDatabase
    fileprivate let fanout: any Fanout
    fileprivate let tasks: [Task<Void, Never>]
  }

  // MARK: For the main thread

  /// The same as `start`, but blocks the calling thread.
  package func startBlocking() throws -> Running {
    try group.loops[0].runBlocking { [self] in try await start() }
  }

  /// The same as `drain`, but blocks the calling thread.
  package func drainBlocking(_ running: Running) throws {
    try group.loops[0].runBlocking { [self] in await drain(running) }
  }

  // MARK: Start

  /// Opens the database, binds the listeners and begins to serve. Throws a sentence for the operator.
  package func start() async throws -> Running {
    try Storage.lock(settings)
    // Runs in parallel on a thread, because it computes for some milliseconds.
    async let documentation = computing.run { [settings] _ in
      DocumentationRoutes(isSecure: settings.isPublicURLSecure)
    }
    let database = try Storage.open(
      settings, metrics: DatabaseMetrics(metrics), log: log, loops: group.loops)
    let tokens = try await AccountUpkeep.tokens(from: database)
    let epoch = try await Epoch.read(from: database) { Base64URL.encode(SecretBytes.random(9)) }
    let searchIndex = try await Storage.openSearchIndex(
      settings, of: database, epoch: epoch, log: log)
    // Every change after this position is found by comparison.
    let known = try await AccountUpkeep.ended(in: database)
    let ended = RevokedSessions()
    for session in known.sessions { ended.add(session) }

    var random = SystemRandomNumberGenerator()
    let node = NodeID(random.next())
    let fanout = try await Nodes.fanout(
      settings, node: node, epoch: epoch, database: database, loop: group.loops[0], log: log,
      metrics: metrics)
    let events = EventStream(fanout: fanout)
    let freshness = Freshness(isShared: database.isShared)
    let activity = SessionActivity()
    let clientKeys = ClientKeyIndex(database)
    try await clientKeys?.load()
    let appender = LogAppender(events: events, clientKeys: clientKeys)
    let features = Features(
      settings: settings, database: database, searchIndex: searchIndex, events: events,
      appender: appender, tokens: tokens, hashing: hashing, computing: computing,
      background: background, metrics: metrics, log: log)
    let credentials = Credentials(
      database: database, local: tokens, foreign: settings.foreignTokens.map { ForeignTokens($0) },
      ended: ended,
      seen: activity, memberships: features.memberships, freshness: freshness)
    // Added before all other listeners: when those learn of a change, these caches have been updated.
    events.listen { events in
      Self.note(events, in: ended, credentials, features)
    }
    let reconciler = Reconciler(
      database: database, events: events, ended: ended, memberships: features.memberships,
      rooms: features.directory, freshness: freshness, position: known.position, epoch: epoch,
      log: log)
    let presence = Presence(node: node, events: events, isShared: settings.fanout != nil)
    let messageLog = MessageLog(
      database: database, events: events, appender: appender, authenticator: credentials,
      freshness: freshness, metrics: ChatMetrics(metrics))
    try await features.ownMarks.load()
    try await features.indexer.load()
    // Before anybody can read what should be gone.
    try await features.expiry.destroyExpired()
    try await features.accounts.noteIfNobodyCanLogIn()
    let relay = RelayServices(
      ingest: messageLog, authenticator: credentials, memberships: features.memberships,
      configuration: settings.relay, node: node, epoch: epoch, events: events, presence: presence,
      log: log, metrics: RelayMetrics(metrics))
    events.listen { events in
      for case .epochChanged(let epoch) in events {
        relay.epochChanged(to: epoch)
        fanout.epochChanged(to: epoch)
      }
    }
    await measureTurns()
    let liveLoops = await makeLiveLoops(database)
    let relayLoops = await makeRelayLoops(
      liveLoops, relay, features, fanout)

    let web = WebServer(
      configuration: settings.web, group: group, openFileLimit: openFileLimit, log: log,
      metrics: metrics)
    let router = Self.router(
      settings: settings, health: health, database: database, features: features,
      writer: features.writer(ingest: messageLog, events: events, node: node),
      relayLoops: relayLoops, audit: Audit(log),
      export: features.export(authenticator: credentials, pool: background),
      admission: SocketAdmission(capacity: web.maximumWebSockets), assets: try assets(),
      documentation: try await documentation)

    let address = try await web.start { [self] address in
      application(router, credentials, address)
    }
    let metricsWeb = try await startMetrics()
    var tasks = Upkeep(
      loop: group.loops[0], database: database, features: features, presence: presence,
      reconciler: reconciler, ended: ended, activity: activity, clientKeys: clientKeys,
      health: health, computing: computing, log: log
    ).start()
    metrics.reading(
      "martlet_people_present",
      "People with open sockets on this node, or with some until a moment ago."
    ) { Double(presence.count) }
    if settings.usesTLS {
      if settings.tlsWatchSeconds > 0 { tasks.append(watchCertificates(web)) }
      tasks.append(renewTicketKeys(web))
    }
    metrics.reading(
      "martlet_database_writable", "1 while the database takes writes, as last found out."
    ) { [health] in
      health.lastCondition == .writable ? 1 : 0
    }
    ProcessMetrics.add(
      to: metrics, version: MartletCommand.version,
      data: settings.database == nil ? settings.data : nil)
    metrics.reading("martlet_password_queue", "Passwords that wait to be hashed.") { [hashing] in
      Double(hashing.waitingCount)
    }
    let scheme = settings.usesTLS ? "https" : "http"
    return Running(
      url: "\(scheme)://\(address)", web: web, metricsWeb: metricsWeb, database: database,
      searchIndex: searchIndex, fanout: fanout, tasks: tasks)
  }

  /// Applies events to the caches that are used for every frame and request.
  private static func note(
    _ events: [Event], in ended: RevokedSessions, _ credentials: Credentials,
    _ features: Features
  ) {
    var sessions: Set<SessionID> = []
    for event in events {
      switch event {
      case .access(.sessionEnded(let id)): sessions.insert(id)
      case .access(.affiliationsChanged(let user, let version)):
        features.memberships.note(user, version: version)
      case .access(.roomChanged(let room, let version)):
        features.directory.note(room, version: version)
      case .epochChanged:
        features.memberships.removeAll()
        features.directory.removeAll()
        features.dialogs.forgetAll()
        credentials.forgetAll()
      case .access, .entry, .receipt, .compared, .signal, .missed: break
      }
    }
    guard !sessions.isEmpty else { return }
    for id in sessions { ended.add(id) }
    credentials.forget(sessions)
  }

  /// All routes of the public listener.
  private static func router(
    settings: Settings, health: Health, database: any SQLDatabase, features: Features,
    writer: MessageWriter, relayLoops: [LoopBound<RelayLoop>], audit: Audit,
    export: AccountExport, admission: SocketAdmission,
    assets: StaticFiles, documentation: DocumentationRoutes
  ) -> Router {
    var router = Router()
    assets.add(to: &router)
    documentation.add(to: &router)
    OperationsRoutes(health: health, database: database).add(to: &router)
    AccountRoutes(
      accounts: features.accounts, erasure: features.erasure, export: export,
      isPublicURLSecure: settings.isPublicURLSecure, audit: audit
    ).add(to: &router)
    AdministrationRoutes(
      accounts: features.administration, erasure: features.erasure, trail: features.auditTrail,
      audit: audit
    ).add(to: &router)
    DirectoryRoutes(directory: features.people).add(to: &router)
    BlockRoutes(blocks: features.blocks, audit: audit).add(to: &router)
    TeamRoutes(teams: features.teams, audit: audit).add(to: &router)
    RoomRoutes(rooms: features.rooms, roomList: features.roomList, audit: audit).add(to: &router)
    MessageRoutes(
      rooms: features.rooms, history: features.history, roomList: features.roomList, writer: writer,
      maximumContentBytes: settings.relay.contentBytes
    ).add(to: &router)
    MarkRoutes(rooms: features.rooms, list: features.roomList, marks: features.marks)
      .add(to: &router)
    ModerationRoutes(
      reports: features.reports, moderation: features.moderation, rooms: features.rooms,
      audit: audit
    ).add(to: &router)
    SearchRoutes(search: features.search, rooms: features.rooms).add(to: &router)
    PeopleRoutes(rooms: features.rooms, dialogs: features.dialogs, audit: audit)
      .add(to: &router)
    InvitationRoutes(teams: features.teams, rooms: features.rooms, audit: audit).add(to: &router)
    RelayRoutes(
      loops: relayLoops, admission: admission
    ).add(to: &router)
    return router
  }

  /// The files of the web application. Throws a sentence for the operator.
  private func assets() throws -> StaticFiles {
    let isSecure = settings.isPublicURLSecure
    if let folder = settings.assets {
      do { return try StaticFiles(folder: folder, isSecure: isSecure) } catch {
        throw SettingsError("MARTLET_ASSETS cannot be read: \(error).")
      }
    }
    guard let beside = ProcessEnvironment.binaryFolder.map({ "\($0)/assets" }),
      FileSystem.exists(beside)
    else { return .none }
    return try StaticFiles(folder: beside, isSecure: isSecure)
  }

  /// The table of routes for `martlet routes`, without a running server.
  package static func describeRoutes(_ settings: Settings) throws -> [Route] {
    let database = DescribedDatabase()
    let events = EventStream(fanout: InProcessFanout())
    guard let key = SigningKey(id: "none", seed: SecretBytes.random(32)),
      let tokens = LocalTokens(keys: [key])
    else { throw SettingsError("no key could be made") }
    let pool = ThreadPool(name: "none", threads: 0, maximumWaiting: 0)
    let features = Features(
      settings: settings, database: database, searchIndex: database, events: events,
      appender: LogAppender(events: events, clientKeys: nil), tokens: tokens, hashing: pool,
      computing: pool, background: pool, metrics: Metrics(), log: .none)
    return router(
      settings: settings, health: Health(log: .none), database: database, features: features,
      writer: features.writer(ingest: DescribedIngest(), events: events, node: NodeID(0)),
      relayLoops: [], audit: Audit(.none),
      export: features.export(authenticator: DescribedAuthenticator(), pool: pool),
      admission: SocketAdmission(capacity: 1), assets: .none,
      documentation: .described
    ).routes
  }

  private func application(
    _ router: Router, _ authenticator: any Authenticator, _ address: ListenAddress
  ) -> Application {
    let origins = Origins(own: settings.ownOrigins(address), allowed: settings.allowedOrigins)
    return Application(
      router: router, configuration: settings.web, log: log, metrics: metrics,
      addressLimit: settings.rateLimits ? AddressLimit(settings.addressRequests) : nil,
      crossOrigin: CrossOrigin(origins),
      authentication: Authentication(
        authenticator, origins: origins, tokenSubprotocol: RelayRoutes.subprotocol, log: log),
      compression: Compression(pool: computing), pool: computing)
  }

  /// A long turn of a loop delays all its sockets, so turns are measured.
  private func measureTurns() async {
    let turns = metrics.histogram(
      "martlet_loop_turn_cpu_seconds", "Processor time that turns of the event loops took.",
      Histogram.durations)
    _ = await group.onEachLoop { loop in loop.measureTurns { turns.observe($0) } }
  }

  /// Live delivery for every loop, shared by all features that publish.
  private func makeLiveLoops(_ database: any SQLDatabase) async -> [LoopBound<LiveLoop>] {
    let liveMetrics = LiveMetrics(metrics)
    let maximumAge = database.isShared ? Freshness.maximumAgeMilliseconds : nil
    return await group.onEachLoop { [settings] loop in
      LiveLoop(
        loop: loop, maximumAgeMilliseconds: maximumAge, sendQueueBytes: settings.sendQueueBytes,
        metrics: liveMetrics)
    }
  }

  private func makeRelayLoops(
    _ live: [LoopBound<LiveLoop>], _ services: RelayServices, _ features: Features,
    _ fanout: any Fanout
  ) async -> [LoopBound<RelayLoop>] {
    await group.onEachLoop { loop in
      RelayLoop(
        live: live[loop.index].value, services: services, rooms: features.rooms,
        dialogs: features.dialogs, references: features.references, marks: features.marks,
        reader: features.reader, people: features.presenceReader, fanout: fanout)
    }
  }

  private func startMetrics() async throws -> WebServer? {
    guard let configuration = settings.metricsWeb else { return nil }
    let web = WebServer(
      configuration: configuration, group: LoopGroup(loops: [group.loops[0]]),
      openFileLimit: openFileLimit, log: log, metrics: Metrics())
    var router = Router()
    MetricsRoutes(metrics: metrics).add(to: &router)
    let application = Application(
      router: router, configuration: configuration, log: log, metrics: Metrics())
    let bound = try await web.start { _ in application }
    log.notice("metrics_listening", ["address": .init("http://\(bound)/metrics")])
    return web
  }

  private func watchCertificates(_ web: WebServer) -> Task<Void, Never> {
    let loop = group.loops[0]
    return loop.task { [settings] in
      while !Task.isCancelled {
        await loop.sleep(milliseconds: settings.tlsWatchSeconds * 1000)
        web.reloadChangedCertificates()
      }
    }
  }

  private func renewTicketKeys(_ web: WebServer) -> Task<Void, Never> {
    let loop = group.loops[0]
    return loop.task {
      while !Task.isCancelled {
        await loop.sleep(milliseconds: Self.ticketKeyMilliseconds)
        web.renewTicketKeys()
      }
    }
  }

  // MARK: Running

  package func reloadCertificates(_ running: Running) {
    guard settings.usesTLS else {
      log.notice("nothing_to_reload", ["reason": "TLS is off; settings are read at the start only"])
      return
    }
    running.web.reloadCertificates()
  }

  /// First `/readyz` fails, then accepting stops, requests finish, and sockets are closed with 1001.
  package func drain(_ running: Running) async {
    log.notice("draining")
    health.startDraining()
    // Time for a load balancer to notice.
    let loop = group.loops[0]
    await loop.sleep(milliseconds: 250)
    running.web.stopAccepting()
    running.web.drain()
    // All steps together take at most ten seconds.
    for _ in 0..<80 where running.web.openConnections > 0 { await loop.sleep(milliseconds: 100) }
    if running.web.openConnections > 0 {
      running.web.abandonRequests()
      await loop.sleep(milliseconds: 200)
    }
    for task in running.tasks { task.cancel() }
    // Closed before the tasks are awaited: those that still wait for the database fail then, and end.
    // On Postgres it is the same.
    if !running.database.isShared { await running.searchIndex.close() }
    await running.database.close()
    for task in running.tasks { await task.value }
    // The last commits are still sent to the other nodes.
    await running.fanout.stop()
    await running.web.destroy()
    await running.metricsWeb?.destroy()
    log.notice("stopped")
  }
}

/// Stands in for a database while routes are only described. Reads and writes throw `unavailable`.
private struct DescribedDatabase: SQLDatabase {
  func read<Result: Sendable>(
    _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result { throw AppError(.unavailable) }

  func readUrgently<Result: Sendable>(
    _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result { throw AppError(.unavailable) }

  func write<Result: Sendable>(
    _ writeClass: WriteClass, _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result { throw AppError(.unavailable) }

  func attach(_ work: any GroupCommitWork) -> GroupCommitSignal { .none }
  func condition() async -> DatabaseCondition { .unavailable }
  var isShared: Bool { false }
  func close() async {}
}

/// Stands in for the check of credentials while routes are only described.
private struct DescribedAuthenticator: Authenticator {
  func authenticate(_ credential: Credential) async throws -> Caller {
    throw AppError(.unavailable)
  }
  func check(_ caller: Caller) throws(AppError) {}
  func hasEnded(_ session: SessionID) -> Bool { false }
  func noteUse(of caller: Caller) {}
}

/// Stands in for the way to the log while routes are only described.
private struct DescribedIngest: Ingest {
  func submit(_ drafts: [Draft]) {}
  func isExpecting(_ room: RoomID) -> Bool { false }
}
