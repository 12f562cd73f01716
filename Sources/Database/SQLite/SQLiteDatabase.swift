package import Basics
internal import CSQLite
internal import EventLoop

/// The embedded database: one file in WAL mode, one writer, a few readers.
///
/// https://www.sqlite.org/wal.html
package final class SQLiteDatabase: SQLDatabase {
  /// What a file is for.
  package enum Use: Sendable {
    /// The data itself: whatever was answered is on disk.
    case original
    /// Data that is made of those in another file, and can be made again. Reading transactions also see the tables of that
    /// file, unless one of this file has the same name. A power failure may take back the last commits; it never
    /// takes one back and leaves a later one. What is written here waits for the processor behind everything else.
    case derived(from: String)
  }

  private let writer: SQLiteWriter
  private let checkpointer: SQLiteCheckpointer
  private let admission = WriteAdmission()
  private let readers: ThreadPool
  private let readConnections: ReadConnections
  private let disk: DiskReserve

  /// A connection and an executor for each reading thread.
  private final class ReadConnections: @unchecked Sendable {
    // Unchecked: slot N is used by thread N of the pool only.
    let slots: [(SQLiteConnection, BlockingExecutor)]

    init(path: String, _ use: Use, count: Int) throws {
      slots = try (0..<count).map { _ in
        let connection = try SQLiteConnection(path: path, isReadOnly: true)
        if case .derived(let original) = use {
          // For reading only, like the connection: https://www.sqlite.org/lang_attach.html
          _ = try connection.runNow(
            Statement("ATTACH DATABASE $1 AS original", [.text(original)]))
        }
        return (connection, BlockingExecutor())
      }
    }
  }

  private static let maximumWaitingReads = 10_000

  /// Opens or creates the file, migrates the schema (or, by `schema`, only checks it) and starts the threads. Throws
  /// `DatabaseError`, `MigrationError` or `SystemError`, all of which name the file.
  package init(
    path: String, _ use: Use = .original, migrations: [Migration],
    schema: SchemaPolicy = .bringUpToDate, readers readerCount: Int, disk: DiskReserve,
    metrics: DatabaseMetrics, log: Log
  ) throws {
    let priority: PlatformThread.Priority
    do {
      let connection = try Self.open(path, migrations, schema)
      switch use {
      case .original:
        priority = .normal
        WriteAheadLogFile.install(on: connection, syncSeconds: metrics.syncSeconds)
      case .derived:
        priority = .background
        // Synced by checkpoints only: https://www.sqlite.org/pragma.html#pragma_synchronous
        try connection.script("PRAGMA synchronous = NORMAL")
      }
      readConnections = try ReadConnections(path: path, use, count: readerCount)
      checkpointer = try SQLiteCheckpointer(
        path: path, priority: priority, metrics: metrics, log: log)
      writer = SQLiteWriter(
        connection: connection, checkpointer: checkpointer, disk: disk, priority: priority,
        metrics: metrics, log: log)
    } catch let failure as DatabaseError {
      throw DatabaseError(
        kind: failure.kind, message: "The database \(path) cannot be used: \(failure.message)")
    } catch let failure as MigrationError {
      throw MigrationError(description: "\(path): \(failure)")
    }
    self.disk = disk
    readers = ThreadPool(
      name: "reader", threads: readerCount, maximumWaiting: Self.maximumWaitingReads)
  }

  private static func open(
    _ path: String, _ migrations: [Migration], _ schema: SchemaPolicy
  ) throws -> SQLiteConnection {
    if !FileSystem.exists(path) { try FileSystem.createPrivate(path) }
    let connection = try SQLiteConnection(path: path, isReadOnly: false)
    try connection.script("PRAGMA journal_mode = WAL")
    // Every commit is on disk before it is answered.
    try connection.script("PRAGMA synchronous = FULL")
    try connection.script("PRAGMA foreign_keys = ON")
    try connection.script("PRAGMA cache_size = -16384")
    try connection.script("PRAGMA temp_store = MEMORY")
    switch schema {
    case .bringUpToDate: try migrate(connection, migrations)
    case .mustBeUpToDate: try requireUpToDate(connection, migrations)
    }
    return connection
  }

  private static func migrate(_ connection: SQLiteConnection, _ migrations: [Migration]) throws {
    try connection.script("BEGIN IMMEDIATE")
    do {
      try connection.script(
        """
        CREATE TABLE IF NOT EXISTS schema_migrations (
          feature TEXT NOT NULL, number INTEGER NOT NULL, checksum INTEGER NOT NULL,
          applied_at INTEGER NOT NULL, PRIMARY KEY (feature, number)) STRICT
        """)
      for step in try pending(connection, migrations) {
        try connection.script(step.sql.sqlite)
        _ = try connection.runNow(
          Statement(
            "INSERT INTO schema_migrations (feature, number, checksum, applied_at) VALUES ($1, $2, $3, $4)",
            [
              .text("\(step.feature)"), .integer(Int64(step.number)),
              .integer(MigrationPlan.checksum(step.sql.sqlite)), .time(.now),
            ]))
      }
      try connection.script("COMMIT")
    } catch {
      // If this fails too, the error that matters is the one being thrown.
      if !connection.isOutsideTransaction { try? connection.script("ROLLBACK") }
      throw error
    }
  }

  private static func requireUpToDate(
    _ connection: SQLiteConnection, _ migrations: [Migration]
  ) throws {
    let tables = try connection.runNow(
      Statement("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_migrations'"))
    guard !tables.rows.isEmpty else { throw MigrationError.noTables }
    guard try pending(connection, migrations).isEmpty else { throw MigrationError.olderSchema }
  }

  private static func pending(
    _ connection: SQLiteConnection, _ migrations: [Migration]
  ) throws -> [Migration] {
    let rows = try connection.runNow(
      Statement("SELECT feature, number, checksum FROM schema_migrations")
    ).rows
    let applied = try rows.map {
      MigrationPlan.Applied(
        feature: try $0.text(0), number: Int(try $0.integer(1)), checksum: try $0.integer(2))
    }
    return try MigrationPlan.pending(migrations, applied: applied) {
      MigrationPlan.checksum($0.sql.sqlite)
    }
  }

  // MARK: SQLDatabase

  package func read<Result: Sendable>(
    _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result {
    do {
      return try await readers.run { [readConnections] thread in
        let (connection, executor) = readConnections.slots[thread]
        try connection.control("BEGIN")
        defer {
          // `try?`: this only ends the snapshot. If that fails, nothing is lost.
          try? connection.control("COMMIT")
        }
        return try executor.run(Transaction(connection), body).get()
      }
    } catch let full as ThreadPool.Full {
      throw AppError(.unavailable, underlying: full)
    } catch {
      throw unavailable(error)
    }
  }

  /// The same as `read`: a single server is always fresh, so nothing waits for its comparison with the database.
  package func readUrgently<Result: Sendable>(
    _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result { try await read(body) }

  @discardableResult
  package func write<Result: Sendable>(
    _ writeClass: WriteClass, _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result {
    guard admission.admit(writeClass) else { throw AppError(.unavailable) }
    defer { admission.release(writeClass) }
    return try await withCheckedThrowingContinuation { continuation in
      let outcome = Outcome<Result>()
      let pending = SQLiteWriter.Pending(writeClass: writeClass) { connection, executor in
        let transaction = Transaction(connection)
        let result = executor.run(transaction, body)
        outcome.value = result
        return result.map { _ in transaction.commitHooks }
      } finish: { failure in
        if let failure {
          continuation.resume(throwing: failure)
        } else {
          continuation.resume(
            with: (outcome.value ?? .failure(AppError(.internalError))).mapError(unavailable))
        }
      }
      if !writer.submit(pending) {
        continuation.resume(throwing: AppError(.unavailable))
      }
    }
  }

  private final class Outcome<Value>: @unchecked Sendable {
    // Unchecked: written and read by the writer's thread only.
    var value: Swift.Result<Value, any Error>?
  }

  package func attach(_ work: any GroupCommitWork) -> GroupCommitSignal { writer.attach(work) }

  package var isShared: Bool { false }

  package func condition() async -> DatabaseCondition {
    do { _ = try await read { try await $0.first("SELECT count(*) FROM schema_migrations") } } catch
    {
      return .unavailable
    }
    if disk.isLow(owing: checkpointer.owedBytes) { return .diskLow }
    // Takes the write lock and releases it, without writing anything.
    do { try await write(.essential) { _ in } } catch { return .locked }
    return .writable
  }

  package func close() async {
    readers.stop()
    writer.stop()
    checkpointer.stop()
  }

  // MARK: Backup

  /// Writes a consistent copy to a new file that only its owner can read, while the server keeps working, and runs
  /// `changes` on the copy. The copy is a single file, which appears when it is complete. Throws if another backup to
  /// the same file is under way.
  /// https://www.sqlite.org/backup.html
  package static func backup(
    from path: String, to target: String, changes: [Statement]
  ) throws {
    let unfinished = target + ".unfinished"
    guard try FileSystem.lockForLifetime(unfinished) else {
      throw DatabaseError(kind: .other, message: "Another backup to \(target) is under way.")
    }
    do {
      // What a killed backup left behind.
      try FileSystem.emptyPrivately(unfinished)
      try copy(from: path, to: unfinished, changes: changes)
      try FileSystem.publish(unfinished, as: target)
    } catch {
      FileSystem.remove(unfinished)
      throw error
    }
  }

  private static func copy(
    from path: String, to target: String, changes: [Statement]
  ) throws {
    let source = try SQLiteConnection(path: path, isReadOnly: true)
    let copy = try SQLiteConnection(path: target, isReadOnly: false)
    guard let backup = sqlite3_backup_init(copy.handle, "main", source.handle, "main") else {
      throw copy.failure(sqlite3_errcode(copy.handle))
    }
    // All pages in one step, so that it is one snapshot however busy the writer is.
    let status = sqlite3_backup_step(backup, -1)
    sqlite3_backup_finish(backup)
    guard status == SQLITE_DONE else { throw copy.failure(status) }
    try copy.script("PRAGMA journal_mode = DELETE")
    for change in changes { _ = try copy.runNow(change) }
  }
}
