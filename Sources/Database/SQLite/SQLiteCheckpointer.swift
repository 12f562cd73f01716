internal import Basics
internal import CSQLite
internal import Synchronization

/// Moves the write-ahead log into the database file, on a thread and a connection of its own, so that
/// no commit waits for megabytes to be copied and synced.
///
/// The log starts again from its beginning once all of it is in the database file and nobody writes.
/// Under steady load there is always a commit more: then the thread copies until little is left, and
/// asks the writer to copy the rest between two commits.
/// https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files
final class SQLiteCheckpointer: @unchecked Sendable {
  // Unchecked: what is shared is behind `monitor` or atomic; the connection belongs to the thread.

  private struct State {
    /// Pages in the log after the last commit.
    var pages = 0
    /// Pages of those that are in the database file already.
    var done = 0
    var isStopping = false
  }

  private let connection: SQLiteConnection
  private let metrics: DatabaseMetrics
  private let log: Log
  private let monitor = Monitor()
  private var state = State()
  private var thread: Thread?
  private let isWriterWanted = Atomic<Bool>(false)

  private static let pageBytes = 4096
  /// The log is moved when nobody has written for a moment and it has this size, or at once beyond the
  /// second.
  private static let pagesWhenIdle = (1 << 20) / pageBytes
  private static let pagesAtOnce = (32 << 20) / pageBytes
  private static let idleMilliseconds: Int64 = 50
  /// So little is left that the writer may copy it between two commits.
  private static let pagesForWriter = (2 << 20) / pageBytes

  /// Opens a connection of its own. Throws `DatabaseError`.
  init(path: String, metrics: DatabaseMetrics, log: Log) throws {
    connection = try SQLiteConnection(path: path, isReadOnly: false)
    try connection.script("PRAGMA synchronous = FULL")
    self.metrics = metrics
    self.log = log
    thread = Thread(name: "checkpointer") { self.run() }
  }

  // MARK: From the writer

  /// After each commit: so many pages are in the log.
  func logGrew(toPages pages: Int) {
    metrics.walBytes.set(pages * Self.pageBytes)
    monitor.locked {
      // Shorter than before: the log has started again.
      if pages < state.pages { state.done = 0 }
      let before = state.pages
      state.pages = pages
      // The thread wakes for the first pages, to watch for a pause, and when it is to begin at once.
      if before <= Self.pagesWhenIdle && pages > Self.pagesWhenIdle
        || before - state.done <= Self.pagesAtOnce && pages - state.done > Self.pagesAtOnce
      {
        monitor.signal()
      }
    }
  }

  /// Whether the writer is asked to copy what is left, before its next commit.
  var wantsWriter: Bool { isWriterWanted.load(ordering: .relaxed) }

  /// Copies what is left of the log, on the writer's thread and connection.
  func finish(on connection: SQLiteConnection) {
    isWriterWanted.store(false, ordering: .relaxed)
    checkpoint(on: connection)
  }

  func stop() {
    monitor.locked {
      state.isStopping = true
      monitor.signal()
    }
    thread?.join()
    thread = nil
  }

  // MARK: The thread

  private func run() {
    while waitUntilDue() {
      let left = checkpoint(on: connection)
      let pages = monitor.locked { state.pages }
      if pages > Self.pagesAtOnce, (1...Self.pagesForWriter).contains(left) {
        isWriterWanted.store(true, ordering: .relaxed)
      }
    }
  }

  /// False when the thread is to end.
  private func waitUntilDue() -> Bool {
    monitor.locked {
      var seen = -1
      while !state.isStopping {
        let left = state.pages - state.done
        if left > Self.pagesAtOnce { return true }
        if left <= Self.pagesWhenIdle {
          monitor.wait()
        } else if seen == state.pages {
          return true
        } else {
          seen = state.pages
          monitor.wait(milliseconds: Self.idleMilliseconds)
        }
      }
      return false
    }
  }

  /// Copies what no reader stands in the way of; returns the pages that are left.
  /// https://www.sqlite.org/c3ref/wal_checkpoint_v2.html
  @discardableResult
  private func checkpoint(on connection: SQLiteConnection) -> Int {
    let start = Monotonic.nanoseconds
    var total: Int32 = 0
    var done: Int32 = 0
    let status = sqlite3_wal_checkpoint_v2(
      connection.handle, nil, SQLITE_CHECKPOINT_PASSIVE, &total, &done)
    guard status == SQLITE_OK else {
      // Busy: the other thread is at it.
      if status & 0xFF != SQLITE_BUSY {
        log.warning("checkpoint_failed", ["cause": .init("\(connection.failure(status))")])
      }
      // Not again for these pages: what failed is tried with the next ones.
      return monitor.locked {
        state.done = state.pages
        return 0
      }
    }
    metrics.checkpointSeconds.observe(Int((Monotonic.nanoseconds - start) / 1000))
    return monitor.locked {
      state.pages = max(state.pages, Int(total))
      // A reader may hold up the rest; counted as done, so that it is tried again when there is more.
      state.done = Int(total)
      return Int(max(0, total - done)) + max(0, state.pages - Int(total))
    }
  }
}
