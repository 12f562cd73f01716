internal import Basics
internal import CPostgres
internal import EventLoop

/// One connection to Postgres, non-blocking and in pipeline mode. Used on its loop only, by one transaction at a
/// time.
///
/// https://www.postgresql.org/docs/15/libpq-async.html, libpq-pipeline-mode.html
final class PostgresConnection: SQLConnection {
  let loop: Loop
  private let handle: OpaquePointer
  private let isClosing: @Sendable () -> Bool
  private var watch: DescriptorWatch?
  private var prepared: [UnsafeRawPointer: String] = [:]
  /// The number of names given to prepared statements. Names are never reused.
  private var nameCount = 0
  private var waiter: CheckedContinuation<DescriptorWatch.Readiness, Never>?
  private(set) var isBroken = false

  private static let connectMilliseconds = 5000
  /// If an answer takes this long, the server counts as gone, whatever the network says.
  private static let answerMilliseconds = 15_000
  /// How often a waiting task checks whether the pool has been closed.
  private static let lookMilliseconds: Int64 = 100

  /// Connects. Once `isClosing` returns true, every wait for Postgres fails, now and later. Throws `DatabaseError`
  /// `unavailable`.
  static func connect(
    to url: Secret<String>, on loop: Loop, isClosing: @escaping @Sendable () -> Bool
  ) async throws -> PostgresConnection {
    loop.preconditionOnLoop()
    guard let handle = PQconnectStart(url.reveal()) else {
      throw DatabaseError(kind: .unavailable, message: "libpq has no memory")
    }
    let connection = PostgresConnection(handle: handle, loop: loop, isClosing: isClosing)
    do { try await connection.finishConnecting() } catch {
      connection.close()
      throw error
    }
    return connection
  }

  private init(
    handle: OpaquePointer, loop: Loop, isClosing: @escaping @Sendable () -> Bool
  ) {
    self.handle = handle
    self.loop = loop
    self.isClosing = isClosing
  }

  private func finishConnecting() async throws {
    guard PQstatus(handle) != CONNECTION_BAD else { throw failure() }
    let end = Monotonic.milliseconds + Int64(Self.connectMilliseconds)
    var interest = DescriptorWatch.Readiness.writable
    while true {
      // libpq may change sockets while it tries addresses.
      watch?.close()
      watch = try makeWatch()
      _ = try await ready(interest, until: end)
      switch PQconnectPoll(handle) {
      case PGRES_POLLING_READING: interest = .readable
      case PGRES_POLLING_WRITING: interest = .writable
      case PGRES_POLLING_OK:
        guard PQsetnonblocking(handle, 1) == 0, PQenterPipelineMode(handle) == 1 else {
          throw failure()
        }
        _ = try await run([
          Statement("SET statement_timeout = '9s'"), Statement("SET lock_timeout = '5s'"),
          // Statements of a transaction follow each other at once. A longer pause means that this process is stopped
          // while it holds locks that others wait for (`lock_timeout`).
          Statement("SET idle_in_transaction_session_timeout = '2s'"),
          Statement(Self.durableSQL),
        ])
        return
      default: throw failure()
      }
    }
  }

  /// A commit must be durable before it is acknowledged. If the database or the role has asynchronous commits, this
  /// overrides them. A stricter level (waiting for a standby) is kept.
  private static let durableSQL: SQL = """
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') = 'off'
    """

  private func makeWatch() throws -> DescriptorWatch {
    // Unowned: the connection owns the watch, and closes it.
    try DescriptorWatch(loop: loop, descriptor: PQsocket(handle)) { [unowned self] readiness in
      watch?.watch([])
      let waiter = waiter
      self.waiter = nil
      waiter?.resume(returning: readiness)
    }
  }

  /// Waits for the socket. Throws if it is broken, `until` has passed, or the pool is closing.
  private func ready(
    _ interest: DescriptorWatch.Readiness, until: Int64
  ) async throws -> DescriptorWatch.Readiness {
    while true {
      let left = until - Monotonic.milliseconds
      guard left > 0 else { throw gone("no answer in time") }
      guard !isClosing() else { throw gone("closed while it waited") }
      let readiness = await wait(for: interest, milliseconds: min(left, Self.lookMilliseconds))
      guard !readiness.contains(.failed) else { throw gone("the socket failed") }
      if !readiness.isEmpty { return readiness }
    }
  }

  /// Returns an empty set if nothing happened within that time.
  private func wait(
    for interest: DescriptorWatch.Readiness, milliseconds: Int64
  ) async -> DescriptorWatch.Readiness {
    // Unowned: the task that awaits below holds the connection, and cancels the timer.
    let timer = loop.schedule(after: Int(milliseconds)) { [unowned self] in
      let waiter = waiter
      self.waiter = nil
      watch?.watch([])
      waiter?.resume(returning: [])
    }
    defer { timer.cancel() }
    return await withCheckedContinuation { continuation in
      waiter = continuation
      watch?.watch(interest)
    }
  }

  /// Closes the connection. Calling it again does nothing.
  func close() {
    guard !isClosed else { return }
    isClosed = true
    isBroken = true
    watch?.close()
    watch = nil
    PQfinish(handle)
  }
  private var isClosed = false

  // MARK: Statements

  /// Whether a statement of the open transaction failed. A COMMIT would then roll back, but report success.
  var isTransactionFailed: Bool { PQtransactionStatus(handle) == PQTRANS_INERROR }

  func run(_ statement: Statement) async throws -> ResultSet {
    let results = try await run([statement])
    guard let result = results.first else { throw gone("no result") }
    return result
  }

  /// A result that libpq will return: of a statement or of its preparation. Statements are identified by the address
  /// of their text, as in `prepared`.
  private enum Expected {
    case result(of: UnsafeRawPointer)
    case preparation(of: UnsafeRawPointer)

    var statement: UnsafeRawPointer {
      switch self {
      case .result(let statement), .preparation(let statement): statement
      }
    }
  }

  /// Sends all statements, then reads all results. If one fails, those after it are not run, and the first failure is
  /// thrown. The transaction must then be rolled back, but the connection remains usable.
  func run(_ statements: [Statement]) async throws -> [ResultSet] {
    loop.preconditionOnLoop()
    guard !isBroken else { throw gone("the connection is broken") }
    if statements.isEmpty { return [] }
    let end = Monotonic.milliseconds + Int64(Self.answerMilliseconds)
    var expected: [Expected] = []
    for statement in statements { try send(statement, &expected) }
    guard PQpipelineSync(handle) == 1 else { throw gone("PQpipelineSync") }
    try await flush(until: end)
    return try await readResults(expected, until: end)
  }

  /// A result arrives as a whole, so the statement itself must bound what it returns.
  func run(_ statement: Statement, stoppingAfter bytes: Int) async throws -> ResultSet {
    try await run(statement)
  }

  /// Queues a statement; prepares it first if it is new.
  private func send(_ statement: Statement, _ expected: inout [Expected]) throws {
    let text = statement.sql.postgres
    let key = UnsafeRawPointer(text.utf8Start)
    let name: String
    if let known = prepared[key] {
      name = known
    } else {
      nameCount += 1
      name = "s\(nameCount)"
      prepared[key] = name
      let status = text.utf8Start.withMemoryRebound(to: CChar.self, capacity: 1) {
        PQsendPrepare(handle, name, $0, 0, nil)
      }
      guard status == 1 else { throw gone("PQsendPrepare") }
      expected.append(.preparation(of: key))
    }
    let parameters = Parameters(statement.values)
    guard parameters.send(handle, name) == 1 else { throw gone("PQsendQueryPrepared") }
    expected.append(.result(of: key))
  }

  private func flush(until end: Int64) async throws {
    while true {
      switch PQflush(handle) {
      case 0: return
      case 1:
        let readiness = try await ready([.readable, .writable], until: end)
        if readiness.contains(.readable), PQconsumeInput(handle) == 0 {
          throw gone("PQconsumeInput")
        }
      default: throw gone("PQflush")
      }
    }
  }

  /// Reads the results. In pipeline mode the results of each command end with a null result, and the sync has one of
  /// its own. All of them are read, whatever the first ones are: what remained would be taken for the next
  /// statement's results.
  private func readResults(_ expected: [Expected], until end: Int64) async throws -> [ResultSet] {
    var sets: [ResultSet] = []
    var firstFailure: DatabaseError?
    for item in expected {
      var isDone = false
      while let result = try await nextResult(until: end) {
        defer { PQclear(result) }
        switch PQresultStatus(result) {
        case PGRES_TUPLES_OK, PGRES_COMMAND_OK:
          isDone = true
          guard case .result = item, firstFailure == nil else { break }
          do { sets.append(try Self.resultSet(result)) } catch {
            firstFailure =
              error as? DatabaseError ?? DatabaseError(kind: .other, message: "\(error)")
          }
        case PGRES_PIPELINE_ABORTED: break
        default:
          let failure = failure(result)
          if Self.uselessPlanStates.contains(sqlState(of: result)) {
            prepared[item.statement] = nil
          }
          if firstFailure == nil { firstFailure = failure }
        }
      }
      if case .preparation(let statement) = item, !isDone { prepared[statement] = nil }
    }
    guard let sync = try await nextResult(until: end) else { throw gone("no end of the pipeline") }
    let status = PQresultStatus(sync)
    PQclear(sync)
    guard status == PGRES_PIPELINE_SYNC else { throw gone("no end of the pipeline") }
    if let firstFailure { throw firstFailure }
    return sets
  }

  private func nextResult(until end: Int64) async throws -> OpaquePointer? {
    while PQisBusy(handle) == 1 {
      _ = try await ready(.readable, until: end)
      guard PQconsumeInput(handle) == 1 else { throw gone("PQconsumeInput") }
    }
    return PQgetResult(handle)
  }

  // MARK: Results

  private static func resultSet(_ result: OpaquePointer) throws -> ResultSet {
    let rowCount = PQntuples(result)
    let columns = PQnfields(result)
    var rows: [Row] = []
    rows.reserveCapacity(Int(rowCount))
    for row in 0..<rowCount {
      rows.append(Row(try (0..<columns).map { try value(result, row, $0) }))
    }
    let affected = PQcmdTuples(result).map { String(cString: $0) } ?? ""
    return ResultSet(rows: rows, changes: Int(affected) ?? 0)
  }

  /// Decodes binary values by the OID of their type (pg_type.dat).
  private static func value(_ result: OpaquePointer, _ row: Int32, _ column: Int32) throws
    -> SQLValue
  {
    if PQgetisnull(result, row, column) == 1 { return .null }
    let count = Int(PQgetlength(result, row, column))
    let bytes = UnsafeRawBufferPointer(start: PQgetvalue(result, row, column), count: count)
    switch PQftype(result, column) {
    case 20, 21, 23:
      // Two's complement, big-endian, with 2, 4 or 8 bytes.
      guard let first = bytes.first else { break }
      let start: Int64 = first >= 0x80 ? -1 : 0
      return .integer(bytes.reduce(start) { $0 << 8 | Int64($1) })
    case 16: return .integer(bytes.first == 1 ? 1 : 0)
    case 17: return .blobOrUUID(bytes)
    case 18, 19, 25, 1043: return .text(String(decoding: bytes, as: UTF8.self))
    default: break
    }
    throw DatabaseError(kind: .other, message: "type \(PQftype(result, column)) is not read")
  }

  // MARK: Failures

  private func gone(_ what: String) -> DatabaseError {
    isBroken = true
    let message = String(cString: PQerrorMessage(handle)).trimmingNewlines()
    return DatabaseError(kind: .unavailable, message: "postgres: \(what): \(message)")
  }

  private func failure() -> DatabaseError { gone("connect") }

  /// feature_not_supported ("cached plan must not change result type": the schema has changed) and
  /// invalid_sql_statement_name (the server does not have the prepared statement). It is prepared again next time.
  private static let uselessPlanStates = ["0A000", "26000"]

  /// Division by zero: the failure of `ageSQL`, and of no other statement of ours.
  private static let expiredState = "22012"

  /// Classified by the class of the SQLSTATE (Postgres manual, appendix A).
  private func failure(_ result: OpaquePointer) -> DatabaseError {
    let state = sqlState(of: result)
    let message = String(cString: PQresultErrorMessage(result)).trimmingNewlines()
    let kind: DatabaseError.Kind =
      switch state.prefix(2) {
      case _ where state == Self.expiredState: .expired
      case "23": .constraint
      // A statement after one that failed and whose error was dropped.
      case _ where state == "25P02": .other
      // Connection failures, read-only transactions, lack of resources, operator intervention, locks, and
      // serialization failures.
      case "", "08", "25", "53", "55", "57", "58", "40": .unavailable
      default: .other
      }
    return DatabaseError(kind: kind, message: "postgres \(state): \(message)")
  }
}

/// The values of a statement in libpq's binary form.
private struct Parameters {
  private var storage: [UInt8] = []
  private var offsets: [Int?] = []
  private var lengths: [Int32] = []
  private var formats: [Int32] = []

  init(_ values: [SQLValue]) {
    for value in values {
      formats.append(1)
      let start = storage.count
      switch value {
      case .null: break
      case .integer(let number):
        withUnsafeBytes(of: number.bigEndian) { storage.append(contentsOf: $0) }
      case .text(let text): storage.append(contentsOf: text.utf8)
      case .blob(let bytes): storage.append(contentsOf: bytes)
      case .uuid(let uuid):
        withUnsafeBytes(of: uuid.high.bigEndian) { storage.append(contentsOf: $0) }
        withUnsafeBytes(of: uuid.low.bigEndian) { storage.append(contentsOf: $0) }
      }
      offsets.append(value == .null ? nil : start)
      lengths.append(Int32(storage.count - start))
    }
    // So that an empty value at the end still has a valid address.
    storage.append(0)
  }

  func send(_ handle: OpaquePointer, _ name: String) -> Int32 {
    storage.withUnsafeBytes { bytes in
      let base = bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
      let pointers = offsets.map { offset -> UnsafePointer<CChar>? in
        offset.flatMap { offset in base.map { $0 + offset } }
      }
      return PQsendQueryPrepared(
        handle, name, Int32(offsets.count), pointers, lengths, formats, 1)
    }
  }
}

extension String {
  fileprivate func trimmingNewlines() -> String {
    String(self.split(separator: "\n").joined(separator: " "))
  }
}

/// The five characters that classify a failure; empty if there is none (Postgres manual, appendix A).
func sqlState(of result: OpaquePointer?) -> String {
  // 67 is PG_DIAG_SQLSTATE, a character constant that Swift does not import.
  PQresultErrorField(result, 67).map { String(cString: $0) } ?? ""
}
