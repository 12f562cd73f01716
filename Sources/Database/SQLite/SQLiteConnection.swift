internal import Basics
internal import CSQLite

/// One connection to the embedded database, used by one thread at a time.
///
/// SQLite reads `$1` as a name and numbers names by first appearance, so values are bound by name:
/// https://www.sqlite.org/lang_expr.html#varparam
final class SQLiteConnection: SQLConnection {
  let handle: OpaquePointer
  private var statements: [UnsafeRawPointer: Prepared] = [:]
  /// The buffer that holds the texts and blobs of the running statement, so that SQLite need not copy each of them.
  private var scratch: UnsafeMutableRawBufferPointer

  private struct Prepared {
    let handle: OpaquePointer
    /// SQLite's indexes of `$1`, `$2` and so on; 0 if the text does not use it.
    let parameters: [Int32]
  }

  private static let busyMilliseconds: Int32 = 2000
  private static let maximumParameters = 32
  private static let keptScratchBytes = 64 * 1024

  /// Turns off SQLite's memory statistics, which take a lock for each allocation and which nobody reads. Done before
  /// the first use of the library (https://www.sqlite.org/c3ref/config.html).
  private static let isConfigured: Bool = martlet_sqlite_disable_memory_statistics() == SQLITE_OK

  /// Opens or creates the file. Throws `DatabaseError`.
  init(path: String, isReadOnly: Bool) throws {
    // If it fails, SQLite is only slower.
    _ = Self.isConfigured
    var opened: OpaquePointer?
    let flags = isReadOnly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
    let status = sqlite3_open_v2(path, &opened, flags | SQLITE_OPEN_NOMUTEX, nil)
    guard status == SQLITE_OK, let opened else {
      let message = opened.map { String(cString: sqlite3_errmsg($0)) } ?? "out of memory"
      sqlite3_close_v2(opened)
      throw DatabaseError(kind: .unavailable, message: "\(path): \(message)")
    }
    handle = opened
    scratch = .allocate(byteCount: Self.keptScratchBytes, alignment: 16)
    sqlite3_extended_result_codes(handle, 1)
    waitForLocks()
  }

  deinit {
    for prepared in statements.values { sqlite3_finalize(prepared.handle) }
    sqlite3_close_v2(handle)
    scratch.deallocate()
  }

  /// From now on, statements wait this long for a lock that another connection or process holds.
  func waitForLocks(milliseconds: Int32 = busyMilliseconds) {
    sqlite3_busy_timeout(handle, milliseconds)
  }

  /// Runs one or more statements without values: pragmas, DDL, transaction control.
  func script(_ text: StaticString) throws {
    let status = text.utf8Start.withMemoryRebound(to: CChar.self, capacity: 1) {
      sqlite3_exec(handle, $0, nil, nil, nil)
    }
    guard status == SQLITE_OK else { throw failure(status) }
  }

  /// Runs one statement without values that is run repeatedly: it is prepared only once.
  func control(_ text: StaticString) throws {
    _ = try runNow(Statement(SQL(stringLiteral: text)))
  }

  /// Whether no transaction is open. SQLite rolls back by itself after some errors
  /// (https://www.sqlite.org/lang_transaction.html, "Response To Errors").
  var isOutsideTransaction: Bool { sqlite3_get_autocommit(handle) != 0 }

  func run(_ statement: Statement) async throws -> ResultSet { try runNow(statement) }

  func run(_ statements: [Statement]) async throws -> [ResultSet] {
    var results: [ResultSet] = []
    results.reserveCapacity(statements.count)
    // By index, because an iterator would copy each statement.
    for index in statements.indices { results.append(try runNow(statements[index])) }
    return results
  }

  func run(_ statement: Statement, stoppingAfter bytes: Int) async throws -> ResultSet {
    try runNow(statement, stoppingAfter: bytes)
  }

  func runNow(_ statement: Statement, stoppingAfter maximumBytes: Int = .max) throws -> ResultSet {
    let prepared = try prepare(statement.sql.sqlite)
    defer {
      sqlite3_reset(prepared.handle)
      sqlite3_clear_bindings(prepared.handle)
    }
    try bind(statement.values, to: prepared)
    let columns = sqlite3_column_count(prepared.handle)
    var rows: [Row] = []
    var bytes = 0
    while bytes < maximumBytes {
      switch sqlite3_step(prepared.handle) {
      case SQLITE_ROW: rows.append(row(prepared.handle, columns, &bytes))
      case SQLITE_DONE: return ResultSet(rows: rows, changes: Int(sqlite3_changes(handle)))
      case let status: throw failure(status)
      }
    }
    return ResultSet(rows: rows, changes: 0)
  }

  private func prepare(_ text: StaticString) throws -> Prepared {
    // The address of a literal stands for its text: the same literal is the same statement.
    let key = UnsafeRawPointer(text.utf8Start)
    if let known = statements[key] { return known }
    var made: OpaquePointer?
    let status = text.utf8Start.withMemoryRebound(to: CChar.self, capacity: 1) {
      sqlite3_prepare_v3(
        handle, $0, Int32(text.utf8CodeUnitCount), UInt32(SQLITE_PREPARE_PERSISTENT), &made, nil)
    }
    guard status == SQLITE_OK, let made else { throw failure(status) }
    let parameters = (1...Self.maximumParameters).map {
      sqlite3_bind_parameter_index(made, "$\($0)")
    }
    let prepared = Prepared(handle: made, parameters: parameters)
    statements[key] = prepared
    return prepared
  }

  // MARK: Binding

  /// Copies texts and blobs into `scratch`, where they stay until the statement is reset, and binds them there
  /// (SQLITE_STATIC).
  private func bind(_ values: [SQLValue], to prepared: Prepared) throws {
    if values.isEmpty { return }
    makeScratch(values)
    var used = 0
    for position in values.indices {
      guard position < prepared.parameters.count else {
        throw DatabaseError(kind: .other, message: "more than \(Self.maximumParameters) values")
      }
      let index = prepared.parameters[position]
      if index == 0 { continue }
      let status: Int32
      switch values[position] {
      case .null: status = sqlite3_bind_null(prepared.handle, index)
      case .integer(let number): status = sqlite3_bind_int64(prepared.handle, index, number)
      case .text(let text):
        let count = copy(text.utf8, text.utf8.count, at: used)
        status = sqlite3_bind_text64(
          prepared.handle, index,
          scratch.baseAddress.map { ($0 + used).assumingMemoryBound(to: CChar.self) },
          sqlite3_uint64(count), martlet_sqlite_static(), UInt8(SQLITE_UTF8))
        used += count
      case .blob(let bytes):
        let count = copy(bytes, bytes.count, at: used)
        status = sqlite3_bind_blob64(
          prepared.handle, index, scratch.baseAddress.map { $0 + used }, sqlite3_uint64(count),
          martlet_sqlite_static())
        used += count
      case .uuid(let uuid):
        scratch.storeBytes(of: uuid.high.bigEndian, toByteOffset: used, as: UInt64.self)
        scratch.storeBytes(of: uuid.low.bigEndian, toByteOffset: used + 8, as: UInt64.self)
        status = sqlite3_bind_blob64(
          prepared.handle, index, scratch.baseAddress.map { $0 + used }, 16,
          martlet_sqlite_static())
        used += 16
      }
      guard status == SQLITE_OK else { throw failure(status) }
    }
  }

  private func makeScratch(_ values: [SQLValue]) {
    // One extra byte, so that an empty text at the end has a valid address: a null address would bind NULL.
    var needed = 1
    for value in values {
      switch value {
      case .text(let text): needed += text.utf8.count
      case .blob(let bytes): needed += bytes.count
      case .uuid: needed += 16
      case .null, .integer: break
      }
    }
    if needed > scratch.count
      || (scratch.count > Self.keptScratchBytes && needed < scratch.count / 4)
    {
      scratch.deallocate()
      scratch = .allocate(byteCount: max(needed, Self.keptScratchBytes), alignment: 16)
    }
  }

  private func copy(_ bytes: some Sequence<UInt8>, _ count: Int, at offset: Int) -> Int {
    let target = UnsafeMutableRawBufferPointer(rebasing: scratch[offset..<(offset + count)])
    let isDone: Void? = bytes.withContiguousStorageIfAvailable {
      target.copyMemory(from: UnsafeRawBufferPointer($0))
    }
    if isDone == nil { for (index, byte) in bytes.enumerated() { target[index] = byte } }
    return count
  }

  // MARK: Rows

  private func row(_ statement: OpaquePointer, _ columns: Int32, _ bytes: inout Int) -> Row {
    var values: [SQLValue] = []
    values.reserveCapacity(Int(columns))
    for column in 0..<columns {
      switch sqlite3_column_type(statement, column) {
      case SQLITE_INTEGER: values.append(.integer(sqlite3_column_int64(statement, column)))
      case SQLITE_TEXT:
        let count = Int(sqlite3_column_bytes(statement, column))
        let text = UnsafeBufferPointer(start: sqlite3_column_text(statement, column), count: count)
        values.append(.text(String(decoding: text, as: UTF8.self)))
        bytes += count
      case SQLITE_BLOB:
        let count = Int(sqlite3_column_bytes(statement, column))
        let blob = UnsafeRawBufferPointer(
          start: sqlite3_column_blob(statement, column), count: count)
        values.append(.blobOrUUID(blob))
        bytes += count
      case SQLITE_FLOAT:
        // No column of ours has this type, but an aggregate may.
        values.append(.integer(sqlite3_column_int64(statement, column)))
      default: values.append(.null)
      }
    }
    return Row(values)
  }

  func failure(_ status: Int32) -> DatabaseError {
    let text = "sqlite \(status): \(String(cString: sqlite3_errmsg(handle)))"
    let kind: DatabaseError.Kind =
      switch status & 0xFF {
      case SQLITE_CONSTRAINT: .constraint
      case SQLITE_BUSY, SQLITE_LOCKED, SQLITE_FULL, SQLITE_IOERR, SQLITE_CANTOPEN, SQLITE_NOMEM,
        SQLITE_READONLY:
        .unavailable
      default: .other
      }
    return DatabaseError(kind: kind, message: text)
  }
}
