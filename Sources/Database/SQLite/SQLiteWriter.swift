internal import Basics
internal import CSQLite

/// The only writer of the embedded database, on a thread of its own.
///
/// All transactions and messages that wait go into one commit, each transaction in a savepoint; one
/// `fdatasync` makes all of them durable. Nothing is answered or published before COMMIT succeeded.
final class SQLiteWriter: @unchecked Sendable {
  // Unchecked: what callers touch is behind `monitor`; the rest belongs to the thread.

  /// A transaction that waits: run inside the commit, then told how it went.
  struct Pending: Sendable {
    let urgency: WriteUrgency
    /// Runs the body; returns the hooks for after the commit, or what it threw.
    let run:
      @Sendable (SQLiteConnection, BlockingExecutor) ->
        Swift.Result<[@Sendable () -> Void], any Error>
    /// Called once: nil where the body's own outcome stands, else why nothing was kept.
    let finish: @Sendable ((any Error)?) -> Void
  }

  private let connection: SQLiteConnection
  private let executor = BlockingExecutor()
  private let metrics: DatabaseMetrics
  private let log: Log
  private let disk: DiskReserve
  private let monitor = Monitor()
  private var waiting: [Pending] = []
  private var gathered: (any GatheredWork)?
  private var isGatheredSignalled = false
  private var isStopping = false
  private var thread: Thread?
  private var walBytes = 0
  private var wasDiskLow = false

  /// Transactions that may wait; more are refused as unavailable.
  private static let maximumWaiting = 10_000
  /// The log is folded into the database when the writer is idle, or beyond this size at once.
  private static let checkpointWhenIdleBytes = 1 << 20
  private static let checkpointAtOnceBytes = 64 << 20
  private static let idleMilliseconds: Int64 = 50

  init(
    connection: SQLiteConnection, disk: DiskReserve, metrics: DatabaseMetrics, log: Log
  ) {
    self.connection = connection
    self.disk = disk
    self.metrics = metrics
    self.log = log
    // Unretained: the connection and its hook end with the thread, which holds the writer.
    sqlite3_wal_hook(
      connection.handle,
      { context, _, _, pages in
        guard let context else { return SQLITE_OK }
        let writer = Unmanaged<SQLiteWriter>.fromOpaque(context).takeUnretainedValue()
        writer.walBytes = Int(pages) * 4096
        return SQLITE_OK
      }, Unmanaged.passUnretained(self).toOpaque())
    thread = Thread(name: "sqlite-writer") { self.run() }
  }

  // MARK: From any thread

  func submit(_ pending: Pending) -> Bool {
    monitor.locked {
      guard !isStopping, waiting.count < Self.maximumWaiting else { return false }
      waiting.append(pending)
      monitor.signal()
      return true
    }
  }

  func attach(_ work: any GatheredWork) { monitor.locked { gathered = work } }

  func signalGatheredWork() {
    monitor.locked {
      guard !isGatheredSignalled else { return }
      isGatheredSignalled = true
      monitor.signal()
    }
  }

  func stop() {
    monitor.locked {
      isStopping = true
      monitor.signal()
    }
    thread?.join()
    thread = nil
  }

  // MARK: The thread

  private struct Batch {
    var transactions: [Pending]
    var gathered: (any GatheredWork)?
  }

  private enum Turn {
    case commit(Batch)
    /// Nothing to do for a while.
    case idle
    case stop
  }

  private func run() {
    while true {
      switch next() {
      case .commit(let batch):
        commit(batch)
        if walBytes > Self.checkpointAtOnceBytes { checkpoint() }
      case .idle: if walBytes > Self.checkpointWhenIdleBytes { checkpoint() }
      case .stop:
        checkpoint()
        return
      }
    }
  }

  /// Waits for something to do. What was accepted is done before it stops.
  private func next() -> Turn {
    monitor.locked {
      if waiting.isEmpty, !isGatheredSignalled, !isStopping {
        if walBytes > Self.checkpointWhenIdleBytes {
          monitor.wait(milliseconds: Self.idleMilliseconds)
        } else {
          monitor.wait()
        }
      }
      guard !waiting.isEmpty || isGatheredSignalled else { return isStopping ? .stop : .idle }
      let batch = Batch(transactions: waiting, gathered: isGatheredSignalled ? gathered : nil)
      waiting = []
      isGatheredSignalled = false
      return .commit(batch)
    }
  }

  private func commit(_ batch: Batch) {
    let start = Monotonic.nanoseconds
    let isDiskLow = disk.isLow
    if isDiskLow != wasDiskLow {
      wasDiskLow = isDiskLow
      log.record(isDiskLow ? .error : .notice, isDiskLow ? "disk_low" : "disk_no_longer_low", [:])
    }
    var accepted: [Pending] = []
    for pending in batch.transactions {
      if isDiskLow, pending.urgency == .ordinary {
        pending.finish(diskFull)
      } else {
        accepted.append(pending)
      }
    }
    var messages = batch.gathered
    if isDiskLow {
      messages?.fail(diskFull)
      messages = nil
    }
    if accepted.isEmpty, messages == nil { return }
    do { try connection.script("BEGIN IMMEDIATE") } catch {
      let failure = unavailable(error)
      log.error("commit_failed", ["cause": .init("\(error)")])
      for pending in accepted { pending.finish(failure) }
      messages?.fail(failure)
      return
    }
    var hooks: [@Sendable () -> Void] = []
    var outcome: GatheredOutcome?
    do {
      for pending in accepted { hooks += try runInSavepoint(pending) }
      if let messages {
        let written = try write(messages)
        outcome = written
        try endSavepoint(isKept: written.failure == nil)
      }
      try connection.script("COMMIT")
    } catch {
      // The whole transaction is lost: by SQLite's own doing, or because COMMIT failed.
      if !connection.isOutsideTransaction { rollback() }
      let failure = unavailable(error)
      log.error("commit_failed", ["cause": .init("\(error)")])
      for pending in accepted { pending.finish(failure) }
      if let outcome { outcome.finish(failure) } else { messages?.fail(failure) }
      return
    }
    metrics.commitSeconds.observe(Int((Monotonic.nanoseconds - start) / 1000))
    metrics.walBytes.set(walBytes)
    metrics.batchSizes.observe(accepted.count)
    for hook in hooks { hook() }
    if let failure = outcome?.failure {
      log.error("messages_not_stored", ["cause": .init("\(failure)")])
    }
    outcome?.finish(outcome?.failure)
    for pending in accepted { pending.finish(nil) }
  }

  /// Throws only where the whole transaction is gone.
  private func runInSavepoint(_ pending: Pending) throws -> [@Sendable () -> Void] {
    try connection.script("SAVEPOINT one")
    switch pending.run(connection, executor) {
    case .success(let hooks):
      try endSavepoint(isKept: true)
      return hooks
    case .failure:
      try endSavepoint(isKept: false)
      return []
    }
  }

  /// Throws only where nothing was written; afterwards the savepoint is to be ended.
  private func write(_ work: any GatheredWork) throws -> GatheredOutcome {
    try connection.script("SAVEPOINT one")
    let transaction = UncheckedTransfer(Transaction(connection))
    return try executor.run { await work.write(in: transaction.value) }.get()
  }

  private func endSavepoint(isKept: Bool) throws {
    guard !connection.isOutsideTransaction else {
      throw DatabaseError(kind: .unavailable, message: "SQLite rolled the transaction back")
    }
    if !isKept { try connection.script("ROLLBACK TO one") }
    try connection.script("RELEASE one")
  }

  private func rollback() {
    do { try connection.script("ROLLBACK") } catch {
      log.error("rollback_failed", ["cause": .init("\(error)")])
    }
  }

  /// Moves the write-ahead log into the database file; readers and later commits go on meanwhile
  /// (https://www.sqlite.org/c3ref/wal_checkpoint_v2.html).
  private func checkpoint() {
    var total: Int32 = 0
    var done: Int32 = 0
    let status = sqlite3_wal_checkpoint_v2(
      connection.handle, nil, SQLITE_CHECKPOINT_PASSIVE, &total, &done)
    // Busy means that a reader needs old pages; the next occasion moves them.
    walBytes = status == SQLITE_OK ? Int(max(0, total - done)) * 4096 : 0
    metrics.walBytes.set(walBytes)
  }

  private var diskFull: AppError { AppError(.unavailable, "The server's disk is nearly full.") }
}

/// Carries a transaction into the task that runs its body on the same thread.
struct UncheckedTransfer<Value>: @unchecked Sendable {
  // Unchecked: `BlockingExecutor.run` ends before its caller goes on, on one thread.
  let value: Value

  init(_ value: Value) { self.value = value }
}

/// What a caller is told where the database could not do its work: transient trouble is
/// `unavailable`, everything else keeps its type and becomes an internal error.
func unavailable(_ error: any Error) -> any Error {
  guard let failure = error as? DatabaseError, failure.kind == .unavailable else { return error }
  return AppError(.unavailable, underlying: failure)
}
