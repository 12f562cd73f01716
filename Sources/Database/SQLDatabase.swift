package import Basics

/// The database behind the stores, the embedded SQLite or Postgres, with the same behaviour.
///
/// Bodies of transactions await only their own statements. If the database is locked, full or gone, calls throw
/// `AppError` `unavailable`, and nothing was kept. (Exception: if the connection to Postgres breaks during COMMIT, the
/// transaction may have been committed.)
package protocol SQLDatabase: Sendable {
  /// Runs `body` on one snapshot of the data. `body` must not write.
  func read<Result: Sendable>(
    _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result

  /// The same as `read`, but never waits behind reads of requests. For the comparison of this node's knowledge with
  /// the database, on which revocation and live delivery depend.
  func readUrgently<Result: Sendable>(
    _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result

  /// Runs `body` in a transaction and returns once that is durably committed. If `body` throws, nothing is kept.
  /// SQLite puts all waiting transactions, up to a limit, into one commit. Throws `unavailable` if too many of this
  /// class are waiting.
  @discardableResult
  func write<Result: Sendable>(
    _ writeClass: WriteClass, _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result

  /// Adds a work to the group commit. There may be several. Each is asked for waiting parts when it has raised the
  /// returned signal. Call this before the first signal of any work.
  func attach(_ work: any GroupCommitWork) -> GroupCommitSignal

  /// Whether reading and writing work at this moment, tested by doing both.
  func condition() async -> DatabaseCondition

  /// Whether other nodes may use the same data, so that this node's knowledge may be outdated. False for SQLite, where
  /// only the operator's commands write besides the server.
  var isShared: Bool { get }

  /// Closes all connections. SQLite first finishes all reads and writes that it accepted. On Postgres running work gets
  /// a limited time, and whatever waits for a connection fails with `unavailable`. Must be the last call.
  func close() async
}

extension SQLDatabase {
  @discardableResult
  package func write<Result: Sendable>(
    _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result { try await write(.ordinary, body) }
}

/// The purpose of a write. It decides how much of its class may wait. With SQLite it also decides whether the write is
/// allowed when free disk space is below the reserve, and its place in a commit.
package enum WriteClass: Sendable, Equatable {
  /// Revokes access or frees space (log-out, ban, deletion). Allowed as long as anything can be written, and done
  /// before the transactions of the other classes.
  case essential
  /// A few small rows. Refused when free disk space is below the reserve.
  case ordinary
  /// Rows with this many bytes in total, stored before anything refers to them: sounds, files. One commit takes only
  /// a few megabytes of them, so that small writes do not wait long. Refused below the reserve.
  case bulk(bytes: Int)
}

/// What a database can do at the moment.
package enum DatabaseCondition: String, Sendable {
  case writable
  /// Free disk space is below the reserve. Writes that grow the data are refused.
  case diskLow = "disk_low"
  /// Another process holds the write lock, or the disk fails.
  case locked
  /// The database server allows only reads: a standby, or `default_transaction_read_only`.
  case readOnly = "read_only"
  /// Not even reads work.
  case unavailable
}

/// The metrics of the database.
package struct DatabaseMetrics: Sendable {
  package let commitSeconds: Histogram
  package let batchSizes: Histogram
  package let syncSeconds: Histogram
  package let checkpointSeconds: Histogram
  package let walBytes: Gauge
  /// The number of parts of a `GroupCommitWork` that the database refused while the others were committed.
  package let refusedAlone: Counter

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
    checkpointSeconds = metrics.histogram(
      "martlet_checkpoint_seconds",
      "Time to move the write-ahead log into the database file (SQLite)."
    ) {
      .durations()
    }
    walBytes = metrics.gauge("martlet_wal_bytes", "Size of the write-ahead log (SQLite).")
    refusedAlone = metrics.counter(
      "martlet_group_commit_refused_total",
      "Parts of a group commit that the database refused while the others were kept.")
  }
}
