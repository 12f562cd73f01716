internal import Basics
internal import CSQLite

/// Copies the write-ahead log to the database file (a checkpoint), with a thread and a connection of its own, so that
/// no commit waits for megabytes to be copied and synced.
///
/// The log restarts from its beginning once all of it is copied and no connection reads from it. Under steady load new
/// commits keep adding pages, so the thread alone never finishes. It copies until little is left, and the writer copies
/// the rest between two commits. If the thread cannot keep up, the writer copies everything before its next commit:
/// the log is limited to 64 MiB plus one commit. Only a long-running reader, such as a backup, lets it grow further.
///
/// https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files
final class SQLiteCheckpointer: @unchecked Sendable {
  // Unchecked: `state` is protected by `monitor`. Each connection is used by one thread only. Properties marked as
  // the writer's are used by the writer's thread only.

  private struct State {
    /// The number of pages in the log after the last commit.
    var pages = 0
    /// How many of them have been copied.
    var copied = 0
    var isFailing = false
    var isStopping = false

    var left: Int { pages - copied }
  }

  /// When the thread has to copy.
  private enum Due: Int {
    case never, whenIdle, now
  }

  private enum Mode {
    /// Copies as much as readers allow.
    case passive
    /// Copies everything and waits for readers, so that the log restarts.
    case restart
  }

  private let connection: SQLiteConnection
  private let metrics: DatabaseMetrics
  private let log: Log
  private let monitor = Monitor()
  private var state = State()
  private var thread: PlatformThread?
  /// Held while pages are copied: SQLite refuses a second checkpoint at the same time.
  private let copying = Monitor()
  /// The writer's: the size of the log at which it has to help.
  private var pagesToHelpAt = pagesAtOnce
  /// The writer's: whether it is asked to help before its next commit.
  private(set) var wantsWriter = false

  private static let pageBytes = 4096
  /// If more pages than this have not been copied, they are copied once there was no commit for `idleMilliseconds`.
  private static let pagesWhenIdle = (1 << 20) / pageBytes
  private static let idleMilliseconds: Int64 = 50
  /// A larger log is copied at once, until no more than `pagesForWriter` are left.
  private static let pagesAtOnce = (32 << 20) / pageBytes
  /// The most pages that the writer copies between two commits, as long as the log is within `pagesAtMost`.
  private static let pagesForWriter = (2 << 20) / pageBytes
  /// If a commit makes the log larger than this, the writer tries to copy all of it before the next commit. After a
  /// failed attempt it tries again when the log has grown by a quarter.
  private static let pagesAtMost = (64 << 20) / pageBytes
  /// How long the writer waits for readers in such an attempt. Readers that take longer are backups; they take minutes.
  private static let readersMilliseconds: Int32 = 100
  /// The pause of the thread after an attempt that copied nothing. It is doubled after each further one.
  private static let pauseMilliseconds: ClosedRange<Int64> = 50...1000

  /// Opens a connection of its own. Throws `DatabaseError`.
  init(path: String, priority: PlatformThread.Priority, metrics: DatabaseMetrics, log: Log) throws {
    connection = try SQLiteConnection(path: path, isReadOnly: false)
    try connection.script("PRAGMA synchronous = FULL")
    self.metrics = metrics
    self.log = log
    thread = PlatformThread(name: "checkpointer", priority: priority) { self.run() }
  }

  /// The number of bytes that remain to be copied. The database file grows by at most as many.
  var owedBytes: Int64 { Int64(monitor.locked { state.left } * Self.pageBytes) }

  func stop() {
    monitor.locked {
      state.isStopping = true
      monitor.signal()
    }
    thread?.join()
    thread = nil
  }

  // MARK: From the writer's thread

  /// Called after each commit with the number of pages in the log.
  func logGrew(toPages pages: Int) {
    metrics.walBytes.set(pages * Self.pageBytes)
    let left = monitor.locked {
      let before = due
      if pages < state.pages {
        // The log has restarted.
        state.copied = 0
        pagesToHelpAt = Self.pagesAtOnce
      }
      state.pages = pages
      if due.rawValue > before.rawValue { monitor.signal() }
      return state.left
    }
    wantsWriter = pages > pagesToHelpAt && (left <= Self.pagesForWriter || pages > Self.pagesAtMost)
  }

  /// Copies the rest of the log between two commits, with the writer's connection.
  func help(on connection: SQLiteConnection) {
    let pages = monitor.locked { state.pages }
    if pages > Self.pagesAtMost {
      connection.waitForLocks(milliseconds: Self.readersMilliseconds)
      checkpoint(on: connection, .restart)
      connection.waitForLocks()
      // While a long-running reader prevents the restart, attempts are rare, because each of them delays all commits.
      pagesToHelpAt = pages + pages / 4
    } else {
      checkpoint(on: connection, .passive)
      pagesToHelpAt = pages + Self.pagesForWriter
    }
    wantsWriter = false
  }

  // MARK: The thread

  private func run() {
    var pause: Int64 = 0
    while waitUntilDue(pause) {
      let hasCopied = checkpoint(on: connection, .passive)
      pause =
        hasCopied
        ? 0
        : min(max(pause * 2, Self.pauseMilliseconds.lowerBound), Self.pauseMilliseconds.upperBound)
    }
  }

  /// Used inside the monitor.
  private var due: Due {
    if state.pages > Self.pagesAtOnce, state.left > Self.pagesForWriter { return .now }
    return state.left > Self.pagesWhenIdle ? .whenIdle : .never
  }

  /// Waits for at most `pause` milliseconds, then until there is something to copy. Returns false when the thread has
  /// to end.
  private func waitUntilDue(_ pause: Int64) -> Bool {
    monitor.locked {
      if pause > 0, !state.isStopping { monitor.wait(milliseconds: pause) }
      var seen = -1
      while !state.isStopping {
        switch due {
        case .now: return true
        case .whenIdle where seen == state.pages: return true
        case .whenIdle:
          seen = state.pages
          monitor.wait(milliseconds: Self.idleMilliseconds)
        case .never: monitor.wait()
        }
      }
      return false
    }
  }

  /// Copies, and returns whether anything was copied.
  /// https://www.sqlite.org/c3ref/wal_checkpoint_v2.html
  @discardableResult
  private func checkpoint(on connection: SQLiteConnection, _ mode: Mode) -> Bool {
    let start = Monotonic.nanoseconds
    var pages: Int32 = -1
    var copied: Int32 = -1
    let status = copying.locked {
      sqlite3_wal_checkpoint_v2(
        connection.handle, nil,
        mode == .restart ? SQLITE_CHECKPOINT_RESTART : SQLITE_CHECKPOINT_PASSIVE, &pages, &copied)
    }
    // Busy: a connection still reads from the log, or an administrator's command (another process) copies it.
    let hasFailed = status != SQLITE_OK && status & 0xFF != SQLITE_BUSY
    if !hasFailed { metrics.checkpointSeconds.observe(Int((Monotonic.nanoseconds - start) / 1000)) }
    let (hasCopied, isFirstFailure) = monitor.locked {
      let before = state.copied
      // Not more than the log has: the writer may have restarted it meanwhile.
      state.copied = min(max(before, Int(copied)), state.pages)
      defer { state.isFailing = hasFailed }
      return (state.copied > before, hasFailed && !state.isFailing)
    }
    if isFirstFailure {
      log.warning("checkpoint_failed", ["cause": .init("\(connection.failure(status))")])
    }
    return hasCopied
  }
}
