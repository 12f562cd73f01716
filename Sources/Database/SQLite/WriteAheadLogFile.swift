internal import Basics
internal import CSQLite

/// A wrapper of the write-ahead log of the writer's connection, which combines a commit's writes and measures the time
/// of its sync.
///
/// SQLite writes each page of a commit with two calls, at consecutive positions of the file, and then syncs. Here these
/// writes are gathered and done with one call before the sync. No connection needs them earlier: others learn of a
/// commit's pages after its sync (`synchronous = FULL`), and before this connection itself reads, it writes what was
/// gathered. A power failure loses only what was not synced, as without gathering.
///
/// SQLite provides the open file through SQLITE_FCNTL_JOURNAL_POINTER. A file's methods are a table of functions
/// (https://www.sqlite.org/c3ref/io_methods.html). A copy with some functions replaced takes the table's place until
/// the connection closes the file.
enum WriteAheadLogFile {
  /// The copied table, followed by what the replaced functions need. Never freed. That costs about 121 KiB per opened
  /// database, nearly all of it the buffer of `gathered`.
  private struct Methods {
    // The first member: SQLite uses the address of this struct as that of the table.
    var table: sqlite3_io_methods
    let original: UnsafePointer<sqlite3_io_methods>
    let gathered: WriteBuffer
  }

  /// Consecutive writes to the file. Used on the connection's thread only.
  private final class WriteBuffer {
    let syncSeconds: Histogram
    private let buffer = UnsafeMutableRawBufferPointer.allocate(
      byteCount: WriteBuffer.capacity, alignment: 16)
    private var count = 0
    /// The file position of the first gathered byte.
    private var offset: sqlite3_int64 = 0

    /// The most bytes that are gathered: 30 pages with their headers. SQLite's own files accept less than 128 KiB in
    /// one write.
    private static let capacity = 30 * (4096 + 24)

    init(syncSeconds: Histogram) { self.syncSeconds = syncSeconds }
    deinit { buffer.deallocate() }

    /// Gathers a write. If it does not continue what was gathered before, or does not fit in the buffer any more, what
    /// was gathered is written first. A write that is larger than the buffer is done at once. Returns SQLite's result
    /// code.
    func add(
      _ bytes: UnsafeRawBufferPointer, at offset: sqlite3_int64, _ file: File
    ) -> Int32 {
      if offset != self.offset + sqlite3_int64(count) || count + bytes.count > Self.capacity {
        let status = flush(file)
        guard status == SQLITE_OK else { return status }
        self.offset = offset
      }
      guard bytes.count <= Self.capacity, let source = bytes.baseAddress else {
        return file.methods.pointee.xWrite(
          file.pointer, bytes.baseAddress, Int32(bytes.count), offset)
      }
      buffer.baseAddress.map { ($0 + count).copyMemory(from: source, byteCount: bytes.count) }
      count += bytes.count
      return SQLITE_OK
    }

    /// Writes what was gathered. If that fails it is dropped, because SQLite then rolls back the transaction.
    func flush(_ file: File) -> Int32 {
      guard count > 0 else { return SQLITE_OK }
      let status = file.methods.pointee.xWrite(
        file.pointer, buffer.baseAddress, Int32(count), offset)
      offset += sqlite3_int64(count)
      count = 0
      return status
    }
  }

  /// An open file with the methods of SQLite's own VFS.
  private struct File {
    let pointer: UnsafeMutablePointer<sqlite3_file>
    private let ours: UnsafePointer<Methods>

    // Read in place: SQLite calls this twice per page.
    var methods: UnsafePointer<sqlite3_io_methods> { ours.pointee.original }
    var gathered: WriteBuffer { ours.pointee.gathered }

    /// Nil if the file is missing or closed. The table is not checked, because these functions are in no other table.
    init?(_ pointer: UnsafeMutablePointer<sqlite3_file>?) {
      guard let pointer, let table = UnsafeRawPointer(pointer.pointee.pMethods) else { return nil }
      self.pointer = pointer
      ours = table.assumingMemoryBound(to: Methods.self)
    }

    func flush() -> Int32 { gathered.flush(self) }
  }

  /// Wraps the log of a connection that has one open. If that fails, writes are neither combined nor measured, but
  /// everything still works.
  static func install(on connection: SQLiteConnection, syncSeconds: Histogram) {
    var pointer: UnsafeMutablePointer<sqlite3_file>?
    let status = sqlite3_file_control(
      connection.handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &pointer)
    guard status == SQLITE_OK, let pointer, let methods = pointer.pointee.pMethods else { return }
    let copy = UnsafeMutablePointer<Methods>.allocate(capacity: 1)
    copy.initialize(
      to: Methods(
        table: methods.pointee, original: methods, gathered: WriteBuffer(syncSeconds: syncSeconds)))
    replaceEntries(&copy.pointee.table)
    pointer.pointee.pMethods = UnsafeRawPointer(copy).assumingMemoryBound(
      to: sqlite3_io_methods.self)
  }

  private static func replaceEntries(_ table: inout sqlite3_io_methods) {
    table.xWrite = { pointer, bytes, count, offset in
      guard let file = File(pointer) else { return SQLITE_IOERR }
      return file.gathered.add(
        UnsafeRawBufferPointer(start: bytes, count: Int(count)), at: offset, file)
    }
    table.xSync = { pointer, flags in
      guard let file = File(pointer) else { return SQLITE_IOERR }
      let written = file.flush()
      guard written == SQLITE_OK else { return written }
      let start = Monotonic.nanoseconds
      let status = file.methods.pointee.xSync(file.pointer, flags)
      file.gathered.syncSeconds.observe(Int((Monotonic.nanoseconds - start) / 1000))
      return status
    }
    table.xRead = { pointer, bytes, count, offset in
      guard let file = File(pointer) else { return SQLITE_IOERR }
      let written = file.flush()
      guard written == SQLITE_OK else { return written }
      return file.methods.pointee.xRead(file.pointer, bytes, count, offset)
    }
    table.xTruncate = { pointer, size in
      guard let file = File(pointer) else { return SQLITE_IOERR }
      let written = file.flush()
      guard written == SQLITE_OK else { return written }
      return file.methods.pointee.xTruncate(file.pointer, size)
    }
    table.xFileSize = { pointer, size in
      guard let file = File(pointer) else { return SQLITE_IOERR }
      let written = file.flush()
      guard written == SQLITE_OK else { return written }
      return file.methods.pointee.xFileSize(file.pointer, size)
    }
    table.xClose = { pointer in
      guard let file = File(pointer) else { return SQLITE_IOERR }
      // A commit's writes were done with its sync; what remains belongs to no commit.
      _ = file.flush()
      return file.methods.pointee.xClose(file.pointer)
    }
  }
}
