internal import Access
internal import Accounts
package import Basics
internal import Chat
internal import Crypto
internal import Database
internal import EventLoop
internal import Events
internal import Live
internal import Relay
package import Web

/// The whole server: made from settings, started, drained. The only place that knows all parts.
package final class MartletServer: Sendable {
  private let settings: Settings
  private let log: Log
  private let metrics = Metrics()
  private let health = Health()
  private let group: LoopGroup
  private let hashing: Lane
  private let compressing = Lane(name: "gzip", threads: 1, maximumWaiting: 64)
  private let openFileLimit: Int

  package init(settings: Settings, log: Log) {
    self.settings = settings
    self.log = log
    openFileLimit = ProcessLimits.raiseOpenFiles()
    group = LoopGroup(count: settings.loops)
    hashing = Lane(name: "password", threads: settings.passwordHashers, maximumWaiting: 256)
  }

  /// What runs once the server has started.
  package struct Running: Sendable {
    /// `http://127.0.0.1:8080`
    package let url: String
    fileprivate let web: WebServer
    fileprivate let metricsWeb: WebServer?
    fileprivate let database: any SQLDatabase
    fileprivate let tasks: [Task<Void, Never>]
  }

  // MARK: For the main thread

  /// As `start`, blocking the calling thread.
  package func startBlocking() throws -> Running {
    try group.loops[0].runBlocking { [self] in try await start() }
  }

  /// As `drain`, blocking the calling thread.
  package func drainBlocking(_ running: Running) throws {
    try group.loops[0].runBlocking { [self] in await drain(running) }
  }

  // MARK: Starting

  /// Opens the database, binds the listeners and serves. Throws a sentence for the operator.
  package func start() async throws -> Running {
    try Storage.lock(settings)
    let database = try Storage.open(
      settings, metrics: DatabaseMetrics(metrics), log: log, loops: group.loops)
    let tokens = try await AccountUpkeep.tokens(from: database)
    let epoch = try await Instance.epoch(from: database) {
      Base64URL.encode(SecretBytes.random(9))
    }
    let ended = EndedSessions()
    _ = try await AccountUpkeep.newlyEnded(
      ended, in: database,
      since: Timestamp.now.adding(milliseconds: -EndedSessions.keptMilliseconds))

    let events = EventStream(fanout: InProcessFanout())
    let activity = SessionActivity()
    let credentials = Credentials(
      database: database, local: tokens, foreign: ForeignTokens(settings), ended: ended,
      seen: activity)
    // First of the listeners: whoever hears of an ended session after this finds it ended.
    events.listen { events in
      let sessions = Set(
        events.compactMap { event in
          if case .access(.sessionEnded(let id)) = event { id } else { nil }
        })
      guard !sessions.isEmpty else { return }
      for id in sessions { ended.add(id) }
      credentials.forget(sessions)
    }
    let messageLog = MessageLog(database: database, events: events, metrics: ChatMetrics(metrics))
    let directory = RoomDirectory(database: database)
    let history = MessageHistory(database: database)
    let rooms = Rooms(
      database: database, events: events, directory: directory, maximumRules: settings.roomRules,
      levelToCreate: settings.roomCreateLevel)
    let accounts = AccountService(
      database: database, events: events, tokens: tokens, hashing: hashing, settings: settings)
    let relay = RelayServices(
      ingest: messageLog, authenticator: credentials, rooms: rooms, settings: settings,
      epoch: epoch, log: log, metrics: RelayMetrics(metrics))
    let relayLoops = await makeRelayLoops(relay, history, directory, events)

    let web = WebServer(
      settings: settings, group: group, openFileLimit: openFileLimit, log: log, metrics: metrics)
    let router = Self.router(
      settings: settings, health: health, database: database, accounts: accounts, rooms: rooms,
      history: history, relayLoops: relayLoops, audit: Audit(log),
      hasRoomForWebSocket: { web.hasRoomForWebSocket })

    let address = try await web.start { [self] address in
      Application(router: router, middleware: middleware(credentials, address))
    }
    let metricsWeb = try await startMetrics()
    let tasks = startUpkeep(database, history, events, ended, activity)
    metrics.reading("martlet_password_queue", "Passwords that wait to be hashed.") { [hashing] in
      Double(hashing.waitingCount)
    }
    let scheme = settings.tlsCertificate == nil ? "http" : "https"
    return Running(
      url: "\(scheme)://\(address)", web: web, metricsWeb: metricsWeb, database: database,
      tasks: tasks)
  }

  /// Every route of the public listener.
  private static func router(
    settings: Settings, health: Health, database: any SQLDatabase, accounts: AccountService,
    rooms: Rooms, history: MessageHistory, relayLoops: [LoopBound<RelayLoop>], audit: Audit,
    hasRoomForWebSocket: @escaping @Sendable () -> Bool
  ) -> Router {
    var router = Router()
    OperationsRoutes(health: health, database: database).add(to: &router)
    AccountRoutes(
      accounts: accounts, isPublicURLSecure: settings.isPublicURLSecure,
      maximumJSONDepth: settings.maxJSONDepth, audit: audit
    ).add(to: &router)
    RoomRoutes(
      rooms: rooms, history: history, maximumJSONDepth: settings.maxJSONDepth, audit: audit
    ).add(to: &router)
    RelayRoutes(
      loops: relayLoops,
      counter: settings.rateLimits
        ? ConnectionCounter(maximumPerAddress: settings.connectionsPerAddress) : nil,
      hasRoom: hasRoomForWebSocket
    ).add(to: &router)
    return router
  }

  /// The table of routes without a server behind it, for `martlet routes`.
  package static func describeRoutes(_ settings: Settings) throws -> [Route] {
    let database = DescribedDatabase()
    let events = EventStream(fanout: InProcessFanout())
    guard let key = SigningKey(id: "none", seed: SecretBytes.random(32)),
      let tokens = LocalTokens(keys: [key])
    else { throw SettingsError("no key could be made") }
    let lane = Lane(name: "none", threads: 0, maximumWaiting: 0)
    return router(
      settings: settings, health: Health(), database: database,
      accounts: AccountService(
        database: database, events: events, tokens: tokens, hashing: lane, settings: settings),
      rooms: Rooms(
        database: database, events: events, directory: RoomDirectory(database: database),
        maximumRules: settings.roomRules, levelToCreate: settings.roomCreateLevel),
      history: MessageHistory(database: database), relayLoops: [], audit: Audit(.none),
      hasRoomForWebSocket: { false }
    ).routes
  }

  private func middleware(
    _ authenticator: any Authenticator, _ address: Settings.ListenAddress
  ) -> [any Middleware] {
    let origins = Origins(own: settings.ownOrigins(address), allowed: settings.allowedOrigins)
    var middleware: [any Middleware] = [
      RequestLog(
        log: log, metrics: metrics, linesPerSecond: settings.accessLogPerSecond,
        trustedProxies: settings.trustedProxies),
      BrowserSecurity(origins: origins),
      Compression(lane: compressing),
      ErrorMapping(log: log),
    ]
    if settings.rateLimits { middleware.append(AddressLimit(settings.addressRequests)) }
    middleware.append(Preflight(origins: origins))
    middleware.append(Authentication(authenticator, origins: origins))
    return middleware
  }

  private func makeRelayLoops(
    _ services: RelayServices, _ history: MessageHistory, _ directory: RoomDirectory,
    _ events: EventStream
  ) async -> [LoopBound<RelayLoop>] {
    let liveMetrics = LiveMetrics(metrics)
    var loops: [LoopBound<RelayLoop>] = []
    for loop in group.loops {
      let bound = await withCheckedContinuation { continuation in
        loop.execute {
          let relay = RelayLoop(
            loop: loop, services: services, history: history, directory: directory,
            metrics: liveMetrics)
          continuation.resume(returning: LoopBound(relay, on: loop))
        }
      }
      events.listen { events in loop.execute { bound.value.apply(events) } }
      loops.append(bound)
    }
    return loops
  }

  private func startMetrics() async throws -> WebServer? {
    guard let address = settings.metricsListen else { return nil }
    var inner = settings
    inner.listen = address
    inner.tlsCertificate = nil
    inner.tlsKey = nil
    let web = WebServer(
      settings: inner, group: LoopGroup(loops: [group.loops[0]]), openFileLimit: openFileLimit,
      log: log, metrics: Metrics())
    var router = Router()
    MetricsRoutes(metrics: metrics).add(to: &router)
    let application = Application(router: router, middleware: [ErrorMapping(log: log)])
    let bound = try await web.start { _ in application }
    log.notice("metrics_listening", ["address": .init("http://\(bound)/metrics")])
    return web
  }

  private func startUpkeep(
    _ database: any SQLDatabase, _ history: MessageHistory, _ events: EventStream,
    _ ended: EndedSessions, _ activity: SessionActivity
  ) -> [Task<Void, Never>] {
    let loop = group.loops[0]
    let reconciler = Reconciler(
      database: database, history: history, events: events, ended: ended, log: log)
    return [
      loop.task { await reconciler.run(on: loop) },
      loop.task { [log] in
        while !Task.isCancelled {
          do { try await AccountUpkeep.removeOldSessions(in: database) } catch {
            log.warning("old_sessions_not_removed", ["cause": .init("\(error)")])
          }
          await loop.sleep(milliseconds: 3_600_000)
        }
      },
      loop.task { [log] in
        while !Task.isCancelled {
          await loop.sleep(milliseconds: 5000)
          ended.sweep()
          do { try await activity.write(to: database) } catch {
            log.warning("activity_not_written", ["cause": .init("\(error)")])
          }
        }
      },
    ]
  }

  // MARK: Running

  package func reloadCertificate(_ running: Running) { running.web.reloadCertificate() }

  /// `/readyz` fails first, then accepting stops, requests finish, sockets close with 1001.
  package func drain(_ running: Running) async {
    log.notice("draining")
    health.startDraining()
    // Time for a load balancer to see it.
    let loop = group.loops[0]
    await loop.sleep(milliseconds: 250)
    running.web.stopAccepting()
    running.web.drain()
    // With what follows, within ten seconds.
    for _ in 0..<88 where running.web.openConnections > 0 { await loop.sleep(milliseconds: 100) }
    if running.web.openConnections > 0 {
      running.web.giveUp()
      await loop.sleep(milliseconds: 200)
    }
    for task in running.tasks { task.cancel() }
    await running.web.destroy()
    await running.metricsWeb?.destroy()
    await running.database.close()
    log.notice("stopped")
  }
}

extension Settings {
  var isPublicURLSecure: Bool { publicURL?.hasPrefix("https://") == true || tlsCertificate != nil }

  /// Our own origins: the public URL, or what the listener is called.
  func ownOrigins(_ address: ListenAddress) -> [String] {
    if let publicURL {
      return [publicURL.hasSuffix("/") ? String(publicURL.dropLast()) : publicURL]
    }
    let scheme = tlsCertificate == nil ? "http" : "https"
    var origins = ["\(scheme)://\(address)"]
    if address.isLoopback { origins.append("\(scheme)://localhost:\(address.port)") }
    return origins
  }
}

/// Stands where a database would, while routes are only described. Answers nothing.
private struct DescribedDatabase: SQLDatabase {
  func read<Result: Sendable>(
    _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result { throw AppError(.unavailable) }

  func write<Result: Sendable>(
    _ urgency: WriteUrgency, _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result { throw AppError(.unavailable) }

  func attach(_ work: any GatheredWork) {}
  func signalGatheredWork() {}
  func close() async {}
}
