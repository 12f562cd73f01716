internal import Basics
internal import EventLoop
internal import Synchronization

/// A pool of connections that are made on demand and kept. Broken ones are replaced.
final class PostgresPool: Sendable {
  private let url: Secret<String>
  private let loops: [Loop]
  private struct State {
    var idle: [LoopBound<PostgresConnection>] = []
    var open = 0
    var made = 0
    /// The waiting tasks, in order. Those that gave up are removed from `waiters` only.
    var line = Queue<UInt64>()
    var waiters: [UInt64: Waiter] = [:]
    var lastWaiter: UInt64 = 0
    var isClosed = false

    mutating func popWaiter() -> Waiter? {
      while let id = line.popFirst() {
        if let waiter = waiters.removeValue(forKey: id) { return waiter }
      }
      return nil
    }
  }
  /// Resumed with a connection, or with nil to try again.
  private typealias Waiter = CheckedContinuation<LoopBound<PostgresConnection>?, Never>
  private let state = Mutex(State())
  private let size: Int
  /// Whether the connections stop waiting for Postgres, so that running work fails.
  private let isAborting = Atomic<Bool>(false)

  /// How long running work may take when the pool closes, and how long its abortion may take after that.
  private static let closeMilliseconds = 300
  private static let maximumWaiting = 10_000

  static let beginRead = Statement("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
  static let begin = Statement("BEGIN")

  init(url: Secret<String>, size: Int, loops: [Loop]) {
    self.url = url
    self.size = size
    self.loops = loops
  }

  /// Runs `body` with a connection on which `begin` was run, on that connection's loop. Throws what `body` throws,
  /// with transient failures as `AppError` `unavailable`.
  ///
  /// Connections that were idle while Postgres was restarted are detected and replaced here, which is safe because no
  /// statement of `body` has been sent.
  func use<Result: Sendable>(
    beginning begin: Statement,
    _ body: @escaping @Sendable (PostgresConnection) async throws -> Result
  ) async throws -> Result {
    let checkout = try await take()
    let outcome = Task(executorPreference: checkout.loop) { [url] () -> Result? in
      let bound: LoopBound<PostgresConnection>
      switch checkout {
      case .connection(let idle): bound = idle
      case .new(let loop):
        do {
          let connection = try await PostgresConnection.connect(to: url, on: loop) {
            self.isAborting.load(ordering: .relaxed)
          }
          bound = LoopBound(connection, on: loop)
        } catch {
          self.connectionWasLost()
          throw error
        }
      }
      do {
        _ = try await bound.value.run(begin)
      } catch {
        let isStale = checkout.isIdle && bound.value.isBroken
        self.release(bound)
        if isStale { return nil }
        throw error
      }
      do {
        let result = try await body(bound.value)
        self.release(bound)
        return result
      } catch {
        self.release(bound)
        throw error
      }
    }
    do {
      if let result = try await outcome.value { return result }
    } catch { throw unavailable(error) }
    await dropIdle()
    return try await use(beginning: begin, body)
  }

  private enum Checkout: Sendable {
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
    case checkout(Checkout)
    case wait
    case refuse
  }

  /// The outcome of an attempt to wait: a connection or a free place at once (`now`), in line (`later`), or neither
  /// (`never`). After `never` the task learns the reason from its cancellation, or by calling `take` again.
  private enum Ready {
    case now(Checkout)
    case later
    case never
  }

  private func decide(_ state: inout State) -> Decision {
    if state.isClosed { return .refuse }
    if let idle = state.idle.popLast() { return .checkout(.connection(idle)) }
    if state.open < size {
      state.open += 1
      state.made += 1
      return .checkout(.new(loops[state.made % loops.count]))
    }
    return state.waiters.count < Self.maximumWaiting ? .wait : .refuse
  }

  /// Throws if the pool is closed or full, or if the calling task was cancelled.
  private func take() async throws -> Checkout {
    switch state.withLock({ decide(&$0) }) {
    case .checkout(let checkout): return checkout
    case .refuse: throw AppError(.unavailable)
    case .wait: break
    }
    let id = state.withLock { state in
      state.lastWaiter += 1
      return state.lastWaiter
    }
    let given = await withTaskCancellationHandler {
      await withCheckedContinuation { wait(for: id, $0) }
    } onCancel: {
      state.withLock { $0.waiters.removeValue(forKey: id) }?.resume(returning: nil)
    }
    if let given { return .connection(given) }
    guard !Task.isCancelled else {
      // This task may have been woken for a free place that it does not use, so the next waiting task is woken.
      wakeNext()
      throw AppError(.unavailable)
    }
    // A place became free without a connection in it.
    return try await take()
  }

  private func wait(for id: UInt64, _ waiter: Waiter) {
    let isCancelled = Task.isCancelled
    let ready: Ready = state.withLock { state in
      // Cancelled before waiting: `onCancel` has already run.
      if isCancelled { return .never }
      // A place may have become free since the decision.
      switch decide(&state) {
      case .checkout(let checkout): return .now(checkout)
      case .refuse: return .never
      case .wait:
        state.line.append(id)
        state.waiters[id] = waiter
        return .later
      }
    }
    switch ready {
    case .later:
      // Cancelled between the check and the wait.
      if Task.isCancelled {
        state.withLock { $0.waiters.removeValue(forKey: id) }?.resume(returning: nil)
      }
    case .now(.connection(let bound)): waiter.resume(returning: bound)
    case .now(.new):
      connectionWasLost()
      waiter.resume(returning: nil)
    case .never: waiter.resume(returning: nil)
    }
  }

  private func release(_ bound: LoopBound<PostgresConnection>) {
    let isBroken = bound.value.isBroken
    let (isKept, next) = state.withLock { state -> (Bool, Waiter?) in
      if isBroken || state.isClosed { return (false, nil) }
      if let waiter = state.popWaiter() { return (true, waiter) }
      state.idle.append(bound)
      return (true, nil)
    }
    guard isKept else {
      bound.value.close()
      connectionWasLost()
      return
    }
    next?.resume(returning: bound)
  }

  /// Frees a place whose connection is gone.
  private func connectionWasLost() {
    state.withLock { $0.open -= 1 }
    wakeNext()
  }

  /// Lets the task that has waited longest look for a free place, if there is one.
  private func wakeNext() {
    let next = state.withLock { $0.open < size ? $0.popWaiter() : nil }
    next?.resume(returning: nil)
  }

  /// Closes the connections that are not in use.
  private func dropIdle() async {
    let idle = state.withLock { state in
      defer { state.idle = [] }
      return state.idle
    }
    for bound in idle {
      await Task(executorPreference: bound.loop) { bound.value.close() }.value
      connectionWasLost()
    }
  }

  /// Closes all connections. Those in use may finish their work first, within a limit.
  func close() async {
    let (idle, waiting) = state.withLock { state in
      state.isClosed = true
      defer {
        state.idle = []
        state.waiters = [:]
      }
      return (state.idle, Array(state.waiters.values))
    }
    for waiter in waiting { waiter.resume(returning: nil) }
    for bound in idle {
      await Task(executorPreference: bound.loop) { bound.value.close() }.value
      connectionWasLost()
    }
    await waitUntilUnused()
    isAborting.store(true, ordering: .relaxed)
    await waitUntilUnused()
  }

  private func waitUntilUnused() async {
    let end = Monotonic.milliseconds + Int64(Self.closeMilliseconds)
    while state.withLock({ $0.open > 0 }), Monotonic.milliseconds < end {
      await loops[0].sleep(milliseconds: 10)
    }
  }
}
