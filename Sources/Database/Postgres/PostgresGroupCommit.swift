internal import Basics
internal import EventLoop
internal import Synchronization

/// The group commit on Postgres: one transaction after the other, on a connection of its own, each with a batch of
/// every work that has parts waiting.
final class PostgresGroupCommit: Sendable {
  private struct State {
    var works: [any GroupCommitWork] = []
    /// In the order of `works`.
    var isSignalled: [Bool] = []
    var isRunning = false
    var isClosed = false
  }

  private let pool: PostgresPool
  private let loop: Loop
  private let metrics: DatabaseMetrics
  private let log: Log
  private let state = Mutex(State())

  /// How many times a commit is attempted if its transaction becomes too old (`Transaction.expire`), and the pause
  /// between two attempts. The pauses add up to five seconds, about as long as a client waits.
  private static let attempts = 100
  private static let retryMilliseconds = 50

  init(pool: PostgresPool, loop: Loop, metrics: DatabaseMetrics, log: Log) {
    self.pool = pool
    self.loop = loop
    self.metrics = metrics
    self.log = log
  }

  func attach(_ work: any GroupCommitWork) -> GroupCommitSignal {
    let index = state.withLock { state in
      state.works.append(work)
      state.isSignalled.append(false)
      return state.works.count - 1
    }
    return GroupCommitSignal { [weak self] in self?.signal(index) }
  }

  private func signal(_ index: Int) {
    let mustStart = state.withLock { state in
      state.isSignalled[index] = true
      guard !state.isRunning, !state.isClosed else { return false }
      state.isRunning = true
      return true
    }
    if mustStart { Task(executorPreference: loop) { await self.run() } }
  }

  func close() async {
    let works = state.withLock { state in
      state.isClosed = true
      return state.works
    }
    for work in works { work.failAll(AppError(.unavailable)) }
    await pool.close()
  }

  private func run() async {
    while let batches = takeBatches() { await commit(batches) }
  }

  /// Returns a batch of each work that raised its signal. Nil if none did, or if this is closed. `run` then ends, and
  /// the next signal starts it again, unless this is closed.
  private func takeBatches() -> [any GroupCommitBatch]? {
    let works = state.withLock { state -> [any GroupCommitWork]? in
      let signalled = state.works.indices.filter { state.isSignalled[$0] }
      guard !signalled.isEmpty, !state.isClosed else {
        state.isRunning = false
        return nil
      }
      for index in signalled { state.isSignalled[index] = false }
      return signalled.map { state.works[$0] }
    }
    guard let works else { return nil }
    let batches = works.compactMap { $0.takeBatch() }
    state.withLock { state in
      for index in state.works.indices where state.works[index].isWaiting {
        state.isSignalled[index] = true
      }
    }
    return batches
  }

  /// Commits batches together. If the database refuses something, each batch is committed by itself. A batch that is
  /// refused again is divided, until the faulty part is isolated.
  private func commit(_ batches: [any GroupCommitBatch]) async {
    guard let first = batches.first else { return }
    let failure: any Error
    do {
      try await write(batches)
      for batch in batches { batch.finish(nil) }
      return
    } catch { failure = error }
    if isTransient(failure) {
      log.error("group_commit_failed", ["cause": .init("\(failure)")])
      for batch in batches { batch.finish(unavailable(failure)) }
      return
    }
    let parts = batches.count > 1 ? batches : first.divide()
    if parts.isEmpty {
      metrics.refusedAlone.add()
      log.error("group_commit_refused", ["cause": .init("\(failure)")])
      first.finish(failure)
    }
    for part in parts { await commit([part]) }
  }

  private func write(_ batches: [any GroupCommitBatch]) async throws {
    for attempt in 1... {
      let start = Monotonic.nanoseconds
      do {
        let hooks = try await pool.use(beginning: PostgresPool.begin) { connection in
          try await connection.transact { transaction in
            for batch in batches { try await batch.write(in: transaction) }
          }.1
        }
        metrics.commitSeconds.observe(Int((Monotonic.nanoseconds - start) / 1000))
        for hook in hooks { hook() }
        return
      } catch let failure where isExpired(failure) && attempt < Self.attempts {
        if attempt == 1 { log.notice("group_commit_expired", [:]) }
        await loop.sleep(milliseconds: Self.retryMilliseconds)
      }
    }
  }

  private func isExpired(_ failure: any Error) -> Bool {
    let cause = (failure as? AppError)?.underlying ?? failure
    return (cause as? DatabaseError)?.kind == .expired
  }
}
