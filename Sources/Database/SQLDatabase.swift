package import Basics

/// The database behind the stores: the embedded SQLite or Postgres, with one behaviour.
///
/// Bodies of transactions await nothing but their own statements. What fails because the database is
/// locked, full or gone throws `AppError` `unavailable`; nothing of it was kept.
package protocol SQLDatabase: Sendable {
  /// Runs `body` on one snapshot of the data. It must not write.
  func read<Result: Sendable>(
    _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result

  /// Runs `body` in a transaction and returns once it is committed, durably. Where `body` throws,
  /// nothing of it is kept. SQLite puts all waiting transactions into one commit.
  @discardableResult
  func write<Result: Sendable>(
    _ urgency: WriteUrgency, _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result

  /// Names the work that gathers (the message log) and is asked to write at each of its signals.
  func attach(_ work: any GatheredWork)

  /// Says that the attached work has gathered something. Costs next to nothing; from any thread.
  func signalGatheredWork()

  /// Ends all connections; what waits fails as unavailable. Called once, last.
  func close() async
}

extension SQLDatabase {
  @discardableResult
  package func write<Result: Sendable>(
    _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result { try await write(.ordinary, body) }
}

/// Whether a write is done even when the disk is nearly full.
package enum WriteUrgency: Sendable {
  /// Grows the data; refused below the reserve of free disk.
  case ordinary
  /// Takes access away or frees space (log-out, ban, deletion): done while anything can be written.
  case essential
}

/// Work that is cheap in bulk: callers leave their parts with it, and it writes all of them whenever
/// the database is ready for a commit.
package protocol GatheredWork: Sendable {
  /// Writes what was gathered so far.
  func write(in transaction: Transaction) async -> GatheredOutcome

  /// Called instead of `write` where there is no transaction to be had: all parts fail.
  func fail(_ error: any Error)
}

/// What became of gathered work inside its transaction.
package struct GatheredOutcome: Sendable {
  /// Why nothing of it may be kept; nil where it may be committed.
  package let failure: (any Error)?
  /// Called once, whatever happens: with nil after the commit, else with why nothing was kept.
  package let finish: @Sendable ((any Error)?) -> Void

  package init(failure: (any Error)? = nil, finish: @escaping @Sendable ((any Error)?) -> Void) {
    self.failure = failure
    self.finish = finish
  }
}

/// One transaction, inside its body only.
package final class Transaction {
  private let connection: any SQLConnection
  private(set) var commitHooks: [@Sendable () -> Void] = []

  init(_ connection: any SQLConnection) { self.connection = connection }

  /// The rows of a statement.
  package func query(_ sql: SQL, _ values: [SQLValue] = []) async throws -> [Row] {
    try await connection.run(Statement(sql, values)).rows
  }

  /// The first row of a statement, or nil.
  package func first(_ sql: SQL, _ values: [SQLValue] = []) async throws -> Row? {
    try await query(sql, values).first
  }

  /// Runs a statement; returns how many rows it inserted, updated or deleted.
  @discardableResult
  package func execute(_ sql: SQL, _ values: [SQLValue] = []) async throws -> Int {
    try await connection.run(Statement(sql, values)).changes
  }

  /// Runs statements that do not depend on each other's results, in order, in one round trip.
  package func pipeline(_ statements: [Statement]) async throws -> [ResultSet] {
    try await connection.run(statements)
  }

  /// Waits until no other transaction, of whichever node, is past this line: for what is made once and
  /// must be one. Until the transaction ends.
  package func exclusively() async throws { _ = try await query(Self.exclusiveSQL) }

  private static let exclusiveSQL = SQL(
    // Writers come one at a time.
    sqlite: "SELECT 1", postgres: "SELECT 1 FROM pg_advisory_xact_lock(7237955317802)")

  /// Calls `hook` after the commit, before the writer's caller goes on; in the order of commits on
  /// SQLite, and without an order between connections on Postgres. Not called where the transaction
  /// fails. This is where events come from.
  package func afterCommit(_ hook: @escaping @Sendable () -> Void) { commitHooks.append(hook) }
}

/// A driver's connection inside a transaction.
protocol SQLConnection {
  func run(_ statement: Statement) async throws -> ResultSet
  func run(_ statements: [Statement]) async throws -> [ResultSet]
}

/// What the database tells of itself.
package struct DatabaseMetrics: Sendable {
  package let commitSeconds: Histogram
  package let batchSizes: Histogram
  package let syncSeconds: Histogram
  package let walBytes: Gauge

  package init(_ metrics: Metrics) {
    commitSeconds = metrics.histogram(
      "martlet_commit_seconds", "Time of a commit, from its begin to its end."
    ) { .durations() }
    batchSizes = metrics.histogram(
      "martlet_commit_batch", "Transactions in one commit, besides the messages."
    ) {
      Histogram(bounds: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096])
    }
    syncSeconds = metrics.histogram(
      "martlet_fdatasync_seconds", "Time of the write-ahead log's fdatasync (SQLite)."
    ) {
      .durations()
    }
    walBytes = metrics.gauge("martlet_wal_bytes", "Size of the write-ahead log (SQLite).")
  }
}
