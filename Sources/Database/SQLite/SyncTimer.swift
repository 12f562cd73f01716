internal import Basics
internal import CSQLite

/// Measures each `fdatasync` of a write-ahead log, by standing in front of the file's sync method.
///
/// SQLite gives the open log file by SQLITE_FCNTL_JOURNAL_POINTER; a file's methods are a table of
/// functions (https://www.sqlite.org/c3ref/io_methods.html), of which a copy with one entry replaced
/// is put in place. SQLite closes the log when the connection closes and never asks for the table
/// again; the copy is kept for the life of the process all the same: it is 150 bytes a database.
enum SyncTimer {
  /// The copy, with what the replaced entry needs behind it.
  private struct TimedMethods {
    // First: SQLite reads the address of this struct as that of the table.
    var table: sqlite3_io_methods
    let original: UnsafePointer<sqlite3_io_methods>
    let histogram: Histogram
  }

  static func install(on connection: SQLiteConnection, histogram: Histogram) {
    var file: UnsafeMutablePointer<sqlite3_file>?
    let status = sqlite3_file_control(
      connection.handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &file)
    // Without the file there is no measurement, and nothing else is lost.
    guard status == SQLITE_OK, let file, let methods = file.pointee.pMethods else { return }
    let copy = UnsafeMutablePointer<TimedMethods>.allocate(capacity: 1)
    copy.initialize(
      to: TimedMethods(table: methods.pointee, original: methods, histogram: histogram))
    copy.pointee.table.xSync = { file, flags in
      // This function stands in no other table than ours.
      guard let file, let table = UnsafeRawPointer(file.pointee.pMethods) else {
        return SQLITE_IOERR
      }
      let timed = table.assumingMemoryBound(to: TimedMethods.self)
      guard let sync = timed.pointee.original.pointee.xSync else { return SQLITE_IOERR }
      let start = Monotonic.nanoseconds
      let status = sync(file, flags)
      timed.pointee.histogram.observe(Int((Monotonic.nanoseconds - start) / 1000))
      return status
    }
    file.pointee.pMethods = UnsafeRawPointer(copy).assumingMemoryBound(
      to: sqlite3_io_methods.self)
  }
}
