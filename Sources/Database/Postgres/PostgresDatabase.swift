package import Basics
internal import CPostgres
package import EventLoop

/// Postgres through a pool of connections, distributed over the event loops. Two further connections have one purpose
/// each: the group commit, so that a burst of requests never delays messages, and the comparison of this node's
/// knowledge with the database, so that nothing delays a revocation.
package final class PostgresDatabase: SQLDatabase {
  private let pool: PostgresPool
  private let urgentPool: PostgresPool
  private let groupCommit: PostgresGroupCommit
  private let admission = WriteAdmission()
  private let metrics: DatabaseMetrics

  /// Migrates the schema, or checks that it is up to date, and blocks meanwhile. The pools connect later, on demand.
  /// Throws `DatabaseError` or `MigrationError`.
  package init(
    url: Secret<String>, migrations: [Migration], schema: SchemaPolicy = .bringUpToDate,
    connections: Int, loops: [Loop], metrics: DatabaseMetrics, log: Log
  ) throws {
    try PostgresMigrator.prepare(url, migrations, schema)
    pool = PostgresPool(url: url, size: max(1, connections - 2), loops: loops)
    urgentPool = PostgresPool(url: url, size: 1, loops: [loops[0]])
    groupCommit = PostgresGroupCommit(
      pool: PostgresPool(url: url, size: 1, loops: [loops[0]]), loop: loops[0], metrics: metrics,
      log: log)
    self.metrics = metrics
  }

  // MARK: SQLDatabase

  package func read<Result: Sendable>(
    _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result {
    try await pool.use(beginning: PostgresPool.beginRead) { try await $0.transact(body).0 }
  }

  package func readUrgently<Result: Sendable>(
    _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result {
    try await urgentPool.use(beginning: PostgresPool.beginRead) { try await $0.transact(body).0 }
  }

  @discardableResult
  package func write<Result: Sendable>(
    _ writeClass: WriteClass, _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result {
    guard admission.admit(writeClass) else { throw AppError(.unavailable) }
    defer { admission.release(writeClass) }
    let start = Monotonic.nanoseconds
    let metrics = metrics
    return try await pool.use(beginning: PostgresPool.begin) { connection in
      let (result, hooks) = try await connection.transact(body)
      metrics.commitSeconds.observe(Int((Monotonic.nanoseconds - start) / 1000))
      for hook in hooks { hook() }
      return result
    }
  }

  package func attach(_ work: any GroupCommitWork) -> GroupCommitSignal { groupCommit.attach(work) }

  package var isShared: Bool { true }

  package func condition() async -> DatabaseCondition {
    do {
      let isReadOnly = try await pool.use(beginning: PostgresPool.begin) { connection in
        try await connection.transact { transaction in
          // Also true on a standby.
          try await transaction.first(
            "SELECT CASE WHEN current_setting('transaction_read_only') = 'on' THEN 1 ELSE 0 END")?
            .bool(0) ?? true
        }.0
      }
      return isReadOnly ? .readOnly : .writable
    } catch { return .unavailable }
  }

  package func close() async {
    async let messages: Void = groupCommit.close()
    async let requests: Void = pool.close()
    async let comparisons: Void = urgentPool.close()
    _ = await (messages, requests, comparisons)
  }
}

extension PostgresConnection {
  private static let commit = Statement("COMMIT")
  private static let rollback = Statement("ROLLBACK")

  /// Fails if the transaction began more than `$1` milliseconds ago by the server's own clock. Sent in one pipeline
  /// with COMMIT, so that nothing can come between.
  static let ageSQL: SQL = """
    SELECT 1 / CASE WHEN clock_timestamp() - transaction_timestamp()
      > $1::bigint * interval '1 millisecond' THEN 0 ELSE 1 END
    """

  /// Runs `body` in a transaction that has begun, and commits it. Returns the result of `body`, and the hooks, which
  /// the caller must run. If this throws, the transaction is rolled back, unless the connection broke during COMMIT.
  func transact<Result: Sendable>(
    _ body: @Sendable (Transaction) async throws -> Result
  ) async throws -> (Result, [@Sendable () -> Void]) {
    let transaction = Transaction(self)
    defer { transaction.end() }
    do {
      let result = try await body(transaction)
      guard !isTransactionFailed else {
        throw DatabaseError(kind: .other, message: "a statement failed and its error was dropped")
      }
      if let milliseconds = transaction.maximumMilliseconds {
        _ = try await run([
          Statement(Self.ageSQL, [.integer(Int64(milliseconds))]), Self.commit,
        ])
      } else {
        _ = try await run(Self.commit)
      }
      return (result, transaction.commitHooks)
    } catch {
      // `try?`: if even the rollback fails, the connection is broken, and is discarded with its transaction.
      if !isBroken { _ = try? await run(Self.rollback) }
      throw error
    }
  }
}
