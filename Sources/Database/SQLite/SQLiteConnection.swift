internal import Basics
internal import CSQLite

/// One connection to the embedded database, for one thread at a time.
///
/// SQLite reads `$1` as a name whose index is the order of first appearance, so values are bound by
/// name: https://www.sqlite.org/lang_expr.html#varparam
final class SQLiteConnection: SQLConnection {
  let handle: OpaquePointer
  private var statements: [UnsafeRawPointer: Prepared] = [:]

  private struct Prepared {
    let handle: OpaquePointer
    /// SQLite's index of `$1`, `$2` ...; 0 where the text does not use it.
    let parameters: [Int32]
  }

  /// How long a statement waits for another process's lock.
  private static let busyMilliseconds: Int32 = 2000
  private static let maximumParameters = 32

  /// Opens or creates the file. Throws `DatabaseError`.
  init(path: String, isReadOnly: Bool) throws {
    var opened: OpaquePointer?
    let flags = isReadOnly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
    let status = sqlite3_open_v2(path, &opened, flags | SQLITE_OPEN_NOMUTEX, nil)
    guard status == SQLITE_OK, let opened else {
      let message = opened.map { String(cString: sqlite3_errmsg($0)) } ?? "out of memory"
      sqlite3_close_v2(opened)
      throw DatabaseError(kind: .unavailable, message: "\(path): \(message)")
    }
    handle = opened
    sqlite3_extended_result_codes(handle, 1)
    sqlite3_busy_timeout(handle, Self.busyMilliseconds)
  }

  deinit {
    for prepared in statements.values { sqlite3_finalize(prepared.handle) }
    sqlite3_close_v2(handle)
  }

  /// Runs one or more statements without values: pragmas, DDL, transaction control.
  func script(_ text: StaticString) throws {
    let status = text.utf8Start.withMemoryRebound(to: CChar.self, capacity: 1) {
      sqlite3_exec(handle, $0, nil, nil, nil)
    }
    guard status == SQLITE_OK else { throw failure(status) }
  }

  /// Whether no transaction is open: SQLite ends one by itself on some errors
  /// (https://www.sqlite.org/lang_transaction.html, "Response To Errors").
  var isOutsideTransaction: Bool { sqlite3_get_autocommit(handle) != 0 }

  func run(_ statement: Statement) async throws -> ResultSet { try runNow(statement) }

  func run(_ statements: [Statement]) async throws -> [ResultSet] {
    try statements.map { try runNow($0) }
  }

  func runNow(_ statement: Statement) throws -> ResultSet {
    let prepared = try prepare(statement.sql.sqlite)
    defer {
      sqlite3_reset(prepared.handle)
      sqlite3_clear_bindings(prepared.handle)
    }
    for (position, value) in statement.values.enumerated() {
      guard position < prepared.parameters.count else {
        throw DatabaseError(kind: .other, message: "more than \(Self.maximumParameters) values")
      }
      let index = prepared.parameters[position]
      if index > 0 { try bind(value, at: index, to: prepared.handle) }
    }
    let columns = sqlite3_column_count(prepared.handle)
    var rows: [Row] = []
    while true {
      switch sqlite3_step(prepared.handle) {
      case SQLITE_ROW: rows.append(row(prepared.handle, columns))
      case SQLITE_DONE:
        return ResultSet(rows: rows, changes: Int(sqlite3_changes(handle)))
      case let status: throw failure(status)
      }
    }
  }

  private func prepare(_ text: StaticString) throws -> Prepared {
    // A literal's address stands for its text: the same literal is the same statement.
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

  private func bind(_ value: SQLValue, at index: Int32, to statement: OpaquePointer) throws {
    let status: Int32
    switch value {
    case .null: status = sqlite3_bind_null(statement, index)
    case .integer(let number): status = sqlite3_bind_int64(statement, index, number)
    case .text(var text):
      status = text.withUTF8 { bytes in
        bytes.withMemoryRebound(to: CChar.self) {
          // withUTF8 gives a pointer for the empty text too: a null one would bind NULL.
          sqlite3_bind_text64(
            statement, index, $0.baseAddress, sqlite3_uint64($0.count),
            martlet_sqlite_transient(), UInt8(SQLITE_UTF8))
        }
      }
    case .blob(let bytes):
      status = bytes.withUnsafeBytes { buffer in
        // A null pointer would bind NULL; an empty blob is not that.
        buffer.isEmpty
          ? sqlite3_bind_zeroblob(statement, index, 0)
          : sqlite3_bind_blob64(
            statement, index, buffer.baseAddress, sqlite3_uint64(buffer.count),
            martlet_sqlite_transient())
      }
    }
    guard status == SQLITE_OK else { throw failure(status) }
  }

  private func row(_ statement: OpaquePointer, _ columns: Int32) -> Row {
    var values: [SQLValue] = []
    values.reserveCapacity(Int(columns))
    for column in 0..<columns {
      switch sqlite3_column_type(statement, column) {
      case SQLITE_INTEGER: values.append(.integer(sqlite3_column_int64(statement, column)))
      case SQLITE_TEXT:
        let count = Int(sqlite3_column_bytes(statement, column))
        let bytes = UnsafeBufferPointer(start: sqlite3_column_text(statement, column), count: count)
        values.append(.text(String(decoding: bytes, as: UTF8.self)))
      case SQLITE_BLOB:
        let count = Int(sqlite3_column_bytes(statement, column))
        let bytes = UnsafeRawBufferPointer(
          start: sqlite3_column_blob(statement, column), count: count)
        values.append(.blob([UInt8](bytes)))
      case SQLITE_FLOAT:
        // No column of ours is one; an aggregate may be.
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
