internal import Basics
internal import CSQLite

/// Measures each `fdatasync` of the write-ahead log, by standing in front of the file's sync method.
///
/// SQLite gives the open log file by SQLITE_FCNTL_JOURNAL_POINTER; a file's methods are a table of
/// functions (https://www.sqlite.org/c3ref/io_methods.html), of which a copy with one entry replaced
/// is put in place. Lives as long as the process.
enum SyncTimer {
  // Set once, before the writer's thread starts; read by that thread.
  private nonisolated(unsafe) static var original: UnsafePointer<sqlite3_io_methods>?
  private nonisolated(unsafe) static var histogram: Histogram?

  static func install(on connection: SQLiteConnection, histogram: Histogram) {
    var file: UnsafeMutablePointer<sqlite3_file>?
    let status = sqlite3_file_control(
      connection.handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &file)
    // Without the file there is no measurement, and nothing else is lost.
    guard status == SQLITE_OK, let file, let methods = file.pointee.pMethods else { return }
    self.histogram = histogram
    guard original == nil else { return }
    original = methods
    let copy = UnsafeMutablePointer<sqlite3_io_methods>.allocate(capacity: 1)
    copy.initialize(to: methods.pointee)
    copy.pointee.xSync = { file, flags in
      guard let sync = SyncTimer.original?.pointee.xSync else { return SQLITE_IOERR }
      let start = Monotonic.nanoseconds
      let status = sync(file, flags)
      SyncTimer.histogram?.observe(Int((Monotonic.nanoseconds - start) / 1000))
      return status
    }
    file.pointee.pMethods = UnsafePointer(copy)
  }
}
