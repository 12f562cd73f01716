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

  /// As `read`, but never behind the reads of requests: for the comparison of what this node knows
  /// with the database, on which revocations and live delivery depend.
  func readUrgently<Result: Sendable>(
    _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result

  /// Runs `body` in a transaction and returns once it is committed, durably. Where `body` throws,
  /// nothing of it is kept. SQLite puts all waiting transactions into one commit. Throws `unavailable`
  /// where too much of this class waits already.
  @discardableResult
  func write<Result: Sendable>(
    _ writeClass: WriteClass, _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result

  /// Adds work to the group commit. Any number may take part; each is asked for what waits whenever
  /// it raised the signal that this returns. Before the first signal of any.
  func attach(_ work: any GroupCommitWork) -> GroupCommitSignal

  /// Whether reading and writing work at this moment; found out by doing both.
  func condition() async -> DatabaseCondition

  /// Whether other processes serve from the same data, so that what this node knows may be old.
  var isShared: Bool { get }

  /// Ends all connections; what waits fails as unavailable. Called once, last.
  func close() async
}

extension SQLDatabase {
  @discardableResult
  package func write<Result: Sendable>(
    _ body: @escaping @Sendable (Transaction) async throws -> Result
  ) async throws -> Result { try await write(.ordinary, body) }
}

/// What a write is for: whether it is done when the disk is nearly full, and how much may wait.
package enum WriteClass: Sendable, Equatable {
  /// Takes access away or frees space (log-out, ban, deletion): done while anything can be written,
  /// and before the others.
  case essential
  /// A few small rows. Refused below the reserve of free disk.
  case ordinary
  /// Rows of so many bytes in all, stored ahead of what will refer to them: sounds, files. A commit
  /// takes a few megabytes of them, so that small writes never wait long. Refused below the reserve.
  case bulk(bytes: Int)
}

/// What a database can do at the moment.
package enum DatabaseCondition: String, Sendable {
  case writable
  /// Free disk is below the reserve: what grows the data is refused.
  case diskLow = "disk_low"
  /// Another process holds the write lock, or the disk fails.
  case locked
  /// The server allows reading only: a standby, or `default_transaction_read_only`.
  case readOnly = "read_only"
  /// Not even reading works.
  case unavailable
}

/// What the database tells of itself.
package struct DatabaseMetrics: Sendable {
  package let commitSeconds: Histogram
  package let batchSizes: Histogram
  package let syncSeconds: Histogram
  package let checkpointSeconds: Histogram
  package let walBytes: Gauge
  /// Rows or transactions of a group commit that the database refused while the others were kept.
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
