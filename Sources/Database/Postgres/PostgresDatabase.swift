package import Basics
internal import CPostgres
package import EventLoop
internal import Synchronization

/// Postgres through a pool of connections, spread over the event loops. One more connection, for the
/// message log, is kept apart, so that a burst of requests never holds up messages.
package final class PostgresDatabase: SQLDatabase {
  private let pool: PostgresPool
  private let logPool: PostgresPool
  private let metrics: DatabaseMetrics
  private let log: Log
  private let gathering: Mutex<Gathering>
  private let loop: Loop

  private struct Gathering {
    var work: (any GatheredWork)?
    var isSignalled = false
    var isRunning = false
    var isClosed = false
  }

  private static let beginRead = Statement("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
  private static let begin = Statement("BEGIN")
  private static let commit = Statement("COMMIT")
  private static let rollback = Statement("ROLLBACK")

  /// Brings the schema up to date and opens the pool. Blocks while it does. Throws `DatabaseError` or
  /// `MigrationError`.
  package init(
    url: Secret<String>, migrations: [Migration], connections: Int, loops: [Loop],
    metrics: DatabaseMetrics, log: Log
  ) throws {
    try PostgresMigrator.migrate(url, migrations)
    pool = PostgresPool(url: url, size: max(1, connections - 1), loops: loops)
    logPool = PostgresPool(url: url, size: 1, loops: [loops[0]])
    loop = loops[0]
    self.metrics = metrics
    self.log = log
    gathering = Mutex(Gathering())
  }

  // MARK: Database

  package func read<Result: Sendable>(
    _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result {
    try await pool.use(beginning: Self.beginRead) { try await Self.run($0, body).0 }
  }

  @discardableResult
  package func write<Result: Sendable>(
    _ urgency: WriteUrgency, _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result {
    let start = Monotonic.nanoseconds
    let metrics = metrics
    return try await pool.use(beginning: Self.begin) { connection in
      let (result, hooks) = try await Self.run(connection, body)
      metrics.commitSeconds.observe(Int((Monotonic.nanoseconds - start) / 1000))
      for hook in hooks { hook() }
      return result
    }
  }

  /// A transaction that has begun, to its end, on the connection's loop.
  private static func run<Result: Sendable>(
    _ connection: PostgresConnection, _ body: @Sendable (Transaction) async throws -> Result
  ) async throws -> (Result, [@Sendable () -> Void]) {
    let transaction = Transaction(connection)
    let result: Result
    do { result = try await body(transaction) } catch {
      // Where even that fails the connection is broken, and is thrown away with its transaction.
      if !connection.isBroken { _ = try? await connection.run(rollback) }
      throw error
    }
    _ = try await connection.run(commit)
    return (result, transaction.commitHooks)
  }

  // MARK: Messages

  package func attach(_ work: any GatheredWork) { gathering.withLock { $0.work = work } }

  package func signalGatheredWork() {
    let mustStart = gathering.withLock { gathering in
      gathering.isSignalled = true
      guard !gathering.isRunning, !gathering.isClosed else { return false }
      gathering.isRunning = true
      return true
    }
    if mustStart { Task(executorPreference: loop) { await self.writeGathered() } }
  }

  private func writeGathered() async {
    while let work = nextWork() {
      let start = Monotonic.nanoseconds
      do {
        try await logPool.use(beginning: Self.begin) { connection in
          await self.writeOnce(work, connection)
        }
        metrics.commitSeconds.observe(Int((Monotonic.nanoseconds - start) / 1000))
      } catch {
        log.error("messages_not_stored", ["cause": .init("\(error)")])
        work.fail(error)
      }
    }
  }

  /// Writes in the transaction that has begun, and ends it.
  private func writeOnce(_ work: any GatheredWork, _ connection: PostgresConnection) async {
    let outcome = await work.write(in: Transaction(connection))
    var failure = outcome.failure
    if failure == nil {
      do { _ = try await connection.run(Self.commit) } catch { failure = error }
    } else if !connection.isBroken {
      // Where even that fails the connection is broken, and is thrown away with its transaction.
      _ = try? await connection.run(Self.rollback)
    }
    if let failure { log.error("messages_not_stored", ["cause": .init("\(failure)")]) }
    outcome.finish(failure)
  }

  private func nextWork() -> (any GatheredWork)? {
    gathering.withLock { gathering in
      guard gathering.isSignalled, !gathering.isClosed, let work = gathering.work else {
        gathering.isRunning = false
        return nil
      }
      gathering.isSignalled = false
      return work
    }
  }

  package func close() async {
    let work = gathering.withLock { gathering in
      gathering.isClosed = true
      return gathering.work
    }
    work?.fail(AppError(.unavailable))
    await pool.close()
    await logPool.close()
  }
}

/// Connections that are made when they are needed and kept; broken ones are replaced.
final class PostgresPool: Sendable {
  private let url: Secret<String>
  private let loops: [Loop]
  private struct State {
    var idle: [LoopBound<PostgresConnection>] = []
    var open = 0
    var made = 0
    var waiting: [CheckedContinuation<LoopBound<PostgresConnection>?, Never>] = []
    var isClosed = false
  }
  private let state = Mutex(State())
  private let size: Int

  private static let maximumWaiting = 10_000

  init(url: Secret<String>, size: Int, loops: [Loop]) {
    self.url = url
    self.size = size
    self.loops = loops
  }

  /// Runs `body` with a connection on which `begin` was run, on that connection's loop. Throws what
  /// `body` throws; transient trouble as `AppError` `unavailable`.
  ///
  /// Connections that lay idle while Postgres was restarted are found out here, and replaced: nothing
  /// has been asked of them yet.
  func use<Result: Sendable>(
    beginning begin: Statement,
    _ body: @escaping @Sendable (PostgresConnection) async throws -> Result
  ) async throws -> Result {
    let place = try await take()
    let outcome = Task(executorPreference: place.loop) { [url] () -> Result? in
      let bound: LoopBound<PostgresConnection>
      switch place {
      case .connection(let idle): bound = idle
      case .new(let loop):
        do {
          bound = LoopBound(try await PostgresConnection.connect(to: url, on: loop), on: loop)
        } catch {
          self.lose()
          throw error
        }
      }
      do {
        _ = try await bound.value.run(begin)
      } catch {
        let isStale = place.isIdle && bound.value.isBroken
        self.giveBack(bound)
        if isStale { return nil }
        throw error
      }
      do {
        let result = try await body(bound.value)
        self.giveBack(bound)
        return result
      } catch {
        self.giveBack(bound)
        throw error
      }
    }
    do {
      if let result = try await outcome.value { return result }
    } catch { throw unavailable(error) }
    await dropIdle()
    return try await use(beginning: begin, body)
  }

  private enum Place: Sendable {
    case connection(LoopBound<PostgresConnection>)
    case new(Loop)

    var isIdle: Bool { if case .connection = self { true } else { false } }

    var loop: Loop {
      switch self {
      case .connection(let bound): bound.loop
      case .new(let loop): loop
      }
    }
  }

  private enum Decision {
    case place(Place)
    case wait
    case refuse
  }

  /// What whoever waits gets: `never` is found out by asking again.
  private enum Ready {
    case now(Place)
    case later
    case never
  }

  private func decide(_ state: inout State) -> Decision {
    if state.isClosed { return .refuse }
    if let idle = state.idle.popLast() { return .place(.connection(idle)) }
    if state.open < size {
      state.open += 1
      state.made += 1
      return .place(.new(loops[state.made % loops.count]))
    }
    return state.waiting.count < Self.maximumWaiting ? .wait : .refuse
  }

  private func take() async throws -> Place {
    switch state.withLock({ decide(&$0) }) {
    case .place(let place): return place
    case .refuse: throw AppError(.unavailable)
    case .wait: break
    }
    let given = await withCheckedContinuation { continuation in
      let ready: Ready = state.withLock { state in
        // Something may have come free between the decision and now.
        switch decide(&state) {
        case .place(let place): return .now(place)
        case .refuse: return .never
        case .wait:
          state.waiting.append(continuation)
          return .later
        }
      }
      switch ready {
      case .later: break
      case .now(.connection(let bound)): continuation.resume(returning: bound)
      case .now(.new):
        lose()
        continuation.resume(returning: nil)
      case .never: continuation.resume(returning: nil)
      }
    }
    if let given { return .connection(given) }
    // A place came free without a connection in it.
    return try await take()
  }

  private func giveBack(_ bound: LoopBound<PostgresConnection>) {
    let isBroken = bound.value.isBroken
    let (isKept, next) = state.withLock {
      state -> (Bool, CheckedContinuation<LoopBound<PostgresConnection>?, Never>?) in
      if isBroken || state.isClosed { return (false, nil) }
      if !state.waiting.isEmpty { return (true, state.waiting.removeFirst()) }
      state.idle.append(bound)
      return (true, nil)
    }
    guard isKept else {
      bound.value.close()
      lose()
      return
    }
    next?.resume(returning: bound)
  }

  /// A place is free, but its connection is gone.
  private func lose() {
    let next = state.withLock {
      state -> CheckedContinuation<LoopBound<PostgresConnection>?, Never>? in
      state.open -= 1
      return state.waiting.isEmpty ? nil : state.waiting.removeFirst()
    }
    next?.resume(returning: nil)
  }

  /// Throws away the connections that nobody uses.
  private func dropIdle() async {
    let idle = state.withLock { state in
      defer { state.idle = [] }
      return state.idle
    }
    for bound in idle {
      await Task(executorPreference: bound.loop) { bound.value.close() }.value
      lose()
    }
  }

  func close() async {
    let (idle, waiting) = state.withLock { state in
      state.isClosed = true
      defer {
        state.idle = []
        state.waiting = []
      }
      return (state.idle, state.waiting)
    }
    for continuation in waiting { continuation.resume(returning: nil) }
    for bound in idle {
      await Task(executorPreference: bound.loop) { bound.value.close() }.value
    }
  }
}
