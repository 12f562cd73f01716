internal import Basics
internal import CSQLite

/// The only writer of the embedded database, with a thread of its own.
///
/// One batch of each group-commit work and the waiting transactions, up to a limit per class, go into one commit. All
/// but the first batch run in a savepoint. One `fdatasync` makes all of them durable. Nothing is acknowledged or
/// published before COMMIT has succeeded.
final class SQLiteWriter: @unchecked Sendable {
  // Unchecked: what callers use is protected by `monitor`; the rest is used by the thread only.

  /// A waiting transaction. It is run inside the commit, and then told the outcome.
  struct Pending: Sendable {
    let writeClass: WriteClass
    /// Runs the body. Returns the hooks for after the commit, or what the body threw.
    let run:
      @Sendable (SQLiteConnection, BlockingExecutor) ->
        Swift.Result<[@Sendable () -> Void], any Error>
    /// Called once: with nil if the body's own outcome stands, or with the reason why nothing was kept.
    let finish: @Sendable ((any Error)?) -> Void
  }

  private struct Participant {
    let work: any GroupCommitWork
    var isSignalled = false
  }

  private let connection: SQLiteConnection
  private let executor = BlockingExecutor()
  private let checkpointer: SQLiteCheckpointer
  private let metrics: DatabaseMetrics
  private let log: Log
  private let disk: DiskReserve
  private let monitor = Monitor()
  private var essential = Queue<Pending>()
  private var ordinary = Queue<Pending>()
  private var bulk = Queue<Pending>()
  private var participants: [Participant] = []
  private var isStopping = false
  private var thread: PlatformThread?
  private var wasDiskLow = false

  /// The most essential transactions, and the most ordinary ones, in one commit. The others wait for the next.
  private static let maximumTransactions = 1000
  /// When the bulk writes of a commit reach this many bytes, it takes no further one. The last one may exceed it.
  private static let maximumBulkBytes = 4 * 1024 * 1024

  init(
    connection: SQLiteConnection, checkpointer: SQLiteCheckpointer, disk: DiskReserve,
    priority: PlatformThread.Priority, metrics: DatabaseMetrics, log: Log
  ) {
    self.connection = connection
    self.checkpointer = checkpointer
    self.disk = disk
    self.metrics = metrics
    self.log = log
    // Unretained: the hook is called only for commits of the writer's thread, which retains the writer. A hook of our
    // own also replaces SQLite's automatic checkpoints (https://www.sqlite.org/c3ref/wal_hook.html).
    sqlite3_wal_hook(
      connection.handle,
      { context, _, _, pages in
        guard let context else { return SQLITE_OK }
        let writer = Unmanaged<SQLiteWriter>.fromOpaque(context).takeUnretainedValue()
        writer.checkpointer.logGrew(toPages: Int(pages))
        return SQLITE_OK
      }, Unmanaged.passUnretained(self).toOpaque())
    thread = PlatformThread(
      name: priority == .normal ? "sqlite-writer" : "derived-writer", priority: priority
    ) { self.run() }
  }

  // MARK: From any thread

  /// Queues a transaction. Returns false if the writer is stopping or has stopped.
  func submit(_ pending: Pending) -> Bool {
    monitor.locked {
      guard !isStopping else { return false }
      switch pending.writeClass {
      case .essential: essential.append(pending)
      case .ordinary: ordinary.append(pending)
      case .bulk: bulk.append(pending)
      }
      monitor.signal()
      return true
    }
  }

  func attach(_ work: any GroupCommitWork) -> GroupCommitSignal {
    let index = monitor.locked {
      participants.append(Participant(work: work))
      return participants.count - 1
    }
    return GroupCommitSignal { [weak self] in self?.signal(index) }
  }

  private func signal(_ index: Int) {
    monitor.locked {
      guard !participants[index].isSignalled else { return }
      participants[index].isSignalled = true
      monitor.signal()
    }
  }

  /// Completes what was accepted, and ends the thread. What group-commit works received after that fails with
  /// `unavailable`.
  func stop() {
    monitor.locked {
      isStopping = true
      monitor.signal()
    }
    thread?.join()
    thread = nil
    let works = monitor.locked { participants.map(\.work) }
    for work in works { work.failAll(AppError(.unavailable)) }
  }

  // MARK: The thread

  /// The contents of one commit.
  private struct Turn {
    var transactions: [Pending] = []
    /// The works that raised their signal, by index.
    var works: [(index: Int, work: any GroupCommitWork)] = []
  }

  private func run() {
    while let turn = next() {
      commit(turn)
      if checkpointer.wantsWriter { checkpointer.help(on: connection) }
    }
  }

  /// Waits for something to do. Returns nil when the writer has to stop and everything accepted is done.
  private func next() -> Turn? {
    monitor.locked {
      while true {
        let turn = takeTurn()
        if !turn.transactions.isEmpty || !turn.works.isEmpty { return turn }
        if isStopping { return nil }
        monitor.wait()
      }
    }
  }

  /// Used inside the monitor.
  private func takeTurn() -> Turn {
    var turn = Turn()
    var count = 0
    func isNext(_: Pending) -> Bool {
      count += 1
      return count <= Self.maximumTransactions
    }
    turn.transactions = essential.popWhile(isNext)
    count = 0
    turn.transactions += ordinary.popWhile(isNext)
    var bytes = 0
    turn.transactions += bulk.popWhile { pending in
      guard bytes < Self.maximumBulkBytes else { return false }
      if case .bulk(let count) = pending.writeClass { bytes += count }
      return true
    }
    for index in participants.indices where participants[index].isSignalled {
      participants[index].isSignalled = false
      turn.works.append((index, participants[index].work))
    }
    return turn
  }

  // MARK: The commit

  /// A batch that was written, or refused, inside the commit.
  private struct WrittenBatch {
    let batch: any GroupCommitBatch
    let failure: (any Error)?
    let hooks: [@Sendable () -> Void]
  }

  private func commit(_ turn: Turn) {
    let start = Monotonic.nanoseconds
    let transactions = allowed(turn.transactions)
    var batches = turn.works.compactMap { takeBatch(of: $0.work, $0.index) }
    if transactions.isEmpty, batches.isEmpty { return }
    var hooks: [@Sendable () -> Void] = []
    var written: [WrittenBatch] = []
    do {
      try connection.control("BEGIN IMMEDIATE")
      var isFirst = true
      while let batch = batches.first {
        batches.removeFirst()
        if isFirst { try writeFirst(batch, &written) } else { try write(batch, &written) }
        isFirst = false
      }
      for pending in transactions { hooks += try runInSavepoint(pending) }
      try connection.control("COMMIT")
    } catch {
      // The whole transaction is lost, because SQLite rolled it back, or because BEGIN or COMMIT failed.
      if !connection.isOutsideTransaction { rollback() }
      let failure = unavailable(error)
      log.error("commit_failed", ["cause": .init("\(error)")])
      for pending in transactions { pending.finish(failure) }
      for batch in written.map(\.batch) + batches { batch.finish(failure) }
      return
    }
    metrics.commitSeconds.observe(Int((Monotonic.nanoseconds - start) / 1000))
    metrics.batchSizes.observe(transactions.count)
    for entry in written {
      for hook in entry.hooks { hook() }
      entry.batch.finish(entry.failure)
    }
    for hook in hooks { hook() }
    for pending in transactions { pending.finish(nil) }
  }

  /// Returns the transactions that may write now, and fails those that must not grow the data.
  private func allowed(_ transactions: [Pending]) -> [Pending] {
    var isDiskLow = disk.isLow(owing: checkpointer.owedBytes)
    if isDiskLow, !wasDiskLow, checkpointer.owedBytes > 0 {
      // The log may owe less than it appears to: many of its pages can be the same page of the file.
      checkpointer.help(on: connection)
      isDiskLow = disk.isLow(owing: checkpointer.owedBytes)
    }
    if isDiskLow != wasDiskLow {
      wasDiskLow = isDiskLow
      log.record(isDiskLow ? .error : .notice, isDiskLow ? "disk_low" : "disk_no_longer_low", [:])
    }
    guard isDiskLow else { return transactions }
    return transactions.filter { pending in
      if pending.writeClass == .essential { return true }
      pending.finish(diskFull)
      return false
    }
  }

  private func takeBatch(
    of work: any GroupCommitWork, _ index: Int
  ) -> (any GroupCommitBatch)? {
    let batch = work.takeBatch()
    if work.isWaiting { signal(index) }
    guard let batch, wasDiskLow, !batch.isEssential else { return batch }
    batch.finish(diskFull)
    return nil
  }

  private var diskFull: AppError { AppError(.unavailable, "The server's disk is nearly full.") }

  /// Throws only if the whole transaction is lost.
  private func runInSavepoint(_ pending: Pending) throws -> [@Sendable () -> Void] {
    try connection.control("SAVEPOINT one")
    switch pending.run(connection, executor) {
    case .success(let hooks):
      try endSavepoint(isKept: true)
      return hooks
    case .failure:
      try endSavepoint(isKept: false)
      return []
    }
  }

  /// Writes the batch that comes first in the commit, without a savepoint. In a savepoint SQLite copies every page
  /// before it changes it, which costs a fifth of the writer's time. If the database refuses the batch, the commit is
  /// begun again, since it contains nothing else yet.
  private func writeFirst(_ batch: any GroupCommitBatch, _ written: inout [WrittenBatch]) throws {
    let transaction = Transaction(connection)
    let outcome = executor.run(transaction) { try await batch.write(in: $0) }
    switch outcome {
    case .success where !connection.isOutsideTransaction:
      written.append(WrittenBatch(batch: batch, failure: nil, hooks: transaction.commitHooks))
    case .failure(let failure) where !isTransient(failure):
      do {
        if !connection.isOutsideTransaction { try connection.control("ROLLBACK") }
        try connection.control("BEGIN IMMEDIATE")
      } catch {
        written.append(WrittenBatch(batch: batch, failure: error, hooks: []))
        throw error
      }
      try divide(batch, failure, &written)
    case .success, .failure:
      written.append(WrittenBatch(batch: batch, failure: nil, hooks: []))
      throw transientFailure(of: outcome)
    }
  }

  private func transientFailure(of outcome: Swift.Result<Void, any Error>) -> any Error {
    if case .failure(let failure) = outcome { return failure }
    return DatabaseError(kind: .unavailable, message: "SQLite rolled the transaction back")
  }

  /// Writes a batch in a savepoint. If the database refuses it, its parts are written instead, each in a savepoint of
  /// its own, until the refused part is isolated. Throws only if the whole transaction is lost, with all parts of
  /// this batch in `written`.
  private func write(_ batch: any GroupCommitBatch, _ written: inout [WrittenBatch]) throws {
    let transaction = Transaction(connection)
    let outcome: Swift.Result<Void, any Error>
    do {
      try connection.control("SAVEPOINT one")
      outcome = executor.run(transaction) { try await batch.write(in: $0) }
      if case .success = outcome {
        try endSavepoint(isKept: true)
      } else {
        try endSavepoint(isKept: false)
      }
    } catch {
      written.append(WrittenBatch(batch: batch, failure: error, hooks: []))
      throw error
    }
    switch outcome {
    case .success:
      written.append(WrittenBatch(batch: batch, failure: nil, hooks: transaction.commitHooks))
    case .failure(let failure): try divide(batch, failure, &written)
    }
  }

  /// Writes the parts of a refused batch. If it cannot be divided, or if the failure is transient, the batch itself has
  /// failed.
  private func divide(
    _ batch: any GroupCommitBatch, _ failure: any Error, _ written: inout [WrittenBatch]
  ) throws {
    var parts = isTransient(failure) ? [] : batch.divide()
    guard !parts.isEmpty else {
      metrics.refusedAlone.add()
      log.error("group_commit_refused", ["cause": .init("\(failure)")])
      written.append(WrittenBatch(batch: batch, failure: unavailable(failure), hooks: []))
      return
    }
    while !parts.isEmpty {
      let part = parts.removeFirst()
      do { try write(part, &written) } catch {
        written += parts.map { WrittenBatch(batch: $0, failure: error, hooks: []) }
        throw error
      }
    }
  }

  private func endSavepoint(isKept: Bool) throws {
    guard !connection.isOutsideTransaction else {
      throw DatabaseError(kind: .unavailable, message: "SQLite rolled the transaction back")
    }
    if !isKept { try connection.control("ROLLBACK TO one") }
    try connection.control("RELEASE one")
  }

  private func rollback() {
    do { try connection.control("ROLLBACK") } catch {
      log.error("rollback_failed", ["cause": .init("\(error)")])
    }
  }
}
