internal import Basics
internal import CPostgres

/// Migrates a Postgres schema before the server serves. Blocks, and uses a connection of its own. Because of an
/// advisory lock, nodes that start at the same time migrate one after the other.
enum PostgresMigrator {
  /// The number is arbitrary, but the same on all nodes.
  private static let lockSQL: StaticString = "SELECT pg_advisory_xact_lock(7237955317801)"

  static func prepare(
    _ url: Secret<String>, _ migrations: [Migration], _ schema: SchemaPolicy
  ) throws {
    let handle = try connect(url)
    defer { PQfinish(handle) }
    guard PQstatus(handle) == CONNECTION_OK else {
      throw DatabaseError(
        kind: .unavailable,
        message: "Postgres cannot be reached: \(String(cString: PQerrorMessage(handle)))")
    }
    try run(handle, "SET client_min_messages = warning")
    switch schema {
    case .bringUpToDate: try migrateInTurn(handle, migrations)
    case .mustBeUpToDate:
      let tables = try rows(handle, "SELECT 1 WHERE to_regclass('schema_migrations') IS NOT NULL")
      guard !tables.isEmpty else { throw MigrationError.noTables }
      guard try pending(handle, migrations).isEmpty else { throw MigrationError.olderSchema }
    }
  }

  private static func migrateInTurn(_ handle: OpaquePointer, _ migrations: [Migration]) throws {
    let start = Monotonic.milliseconds
    while true {
      do {
        return try migrate(handle, migrations)
      } catch let failure as LockFailure {
        // Serving nodes hold locks for milliseconds, so a retry can succeed. A dump holds them until it is done.
        guard Monotonic.milliseconds - start < patienceMilliseconds else {
          throw DatabaseError(
            kind: .unavailable,
            message: "The schema cannot be changed while others hold its tables: \(failure.message)"
          )
        }
        try run(handle, "ROLLBACK")
        try run(handle, "SELECT pg_sleep(0.2)")
      }
    }
  }

  /// The error if another transaction held a lock for too long, or if there was a deadlock with it.
  private struct LockFailure: Error {
    let message: String
  }

  /// The states deadlock_detected and lock_not_available (Postgres manual, appendix A).
  private static let lockStates = ["40P01", "55P03"]
  private static let patienceMilliseconds: Int64 = 60_000

  private static func migrate(_ handle: OpaquePointer, _ migrations: [Migration]) throws {
    try run(handle, "BEGIN")
    try run(handle, lockSQL)
    // While this waits for a table's lock, all other transactions that need the table queue up behind it.
    try run(handle, "SET LOCAL lock_timeout = '2s'")
    try run(
      handle,
      """
      CREATE TABLE IF NOT EXISTS schema_migrations (
        feature TEXT NOT NULL, number BIGINT NOT NULL, checksum BIGINT NOT NULL,
        applied_at BIGINT NOT NULL, PRIMARY KEY (feature, number))
      """)
    for step in try pending(handle, migrations) {
      try run(handle, step.sql.postgres)
      try insert(handle, step)
    }
    try run(handle, "COMMIT")
  }

  private static func pending(
    _ handle: OpaquePointer, _ migrations: [Migration]
  ) throws -> [Migration] {
    let applied = try rows(handle, "SELECT feature, number, checksum FROM schema_migrations").map {
      guard $0.count == 3, let number = Int($0[1]), let checksum = Int64($0[2]) else {
        throw DatabaseError(kind: .other, message: "schema_migrations is not ours")
      }
      return MigrationPlan.Applied(feature: $0[0], number: number, checksum: checksum)
    }
    return try MigrationPlan.pending(migrations, applied: applied) {
      MigrationPlan.checksum($0.sql.postgres)
    }
  }

  /// How many seconds a server may take to answer, unless the URL says otherwise.
  private static let connectSeconds = "10"

  private static func connect(_ url: Secret<String>) throws -> OpaquePointer {
    // libpq quotes what it cannot parse, and that may include the password.
    guard PostgresURL.isPlausible(url.reveal()), let options = PQconninfoParse(url.reveal(), nil)
    else {
      throw DatabaseError(
        kind: .other, message: "MARTLET_DATABASE is not a URL that libpq understands.")
    }
    PQconninfoFree(options)
    // Parameters of the URL come last and take precedence.
    let handle = "connect_timeout".withCString { timeout in
      connectSeconds.withCString { seconds in
        "dbname".withCString { name in
          url.reveal().withCString {
            PQconnectdbParams([timeout, name, nil], [seconds, $0, nil], 1)
          }
        }
      }
    }
    guard let handle else {
      throw DatabaseError(kind: .unavailable, message: "libpq has no memory")
    }
    return handle
  }

  private static func insert(_ handle: OpaquePointer, _ step: Migration) throws {
    let values = [
      "\(step.feature)", String(step.number), String(MigrationPlan.checksum(step.sql.postgres)),
      String(Timestamp.now.milliseconds),
    ]
    try withCStrings(values) { pointers in
      try check(
        handle,
        PQexecParams(
          handle,
          "INSERT INTO schema_migrations (feature, number, checksum, applied_at) VALUES ($1, $2, $3, $4)",
          4, nil, pointers, nil, nil, 0))
    }
  }

  private static func withCStrings(
    _ texts: [String], _ body: ([UnsafePointer<CChar>?]) throws -> Void
  ) throws {
    func next(_ index: Int, _ pointers: [UnsafePointer<CChar>?]) throws {
      guard index < texts.count else { return try body(pointers) }
      try texts[index].withCString { try next(index + 1, pointers + [$0]) }
    }
    try next(0, [])
  }

  private static func run(_ handle: OpaquePointer, _ text: StaticString) throws {
    try check(handle, exec(handle, text))
  }

  private static func rows(_ handle: OpaquePointer, _ text: StaticString) throws -> [[String]] {
    guard let result = exec(handle, text) else { throw failure(handle) }
    defer { PQclear(result) }
    guard PQresultStatus(result) == PGRES_TUPLES_OK else { throw failure(handle) }
    return (0..<PQntuples(result)).map { row in
      (0..<PQnfields(result)).map { String(cString: PQgetvalue(result, row, $0)) }
    }
  }

  private static func exec(_ handle: OpaquePointer, _ text: StaticString) -> OpaquePointer? {
    text.utf8Start.withMemoryRebound(to: CChar.self, capacity: 1) { PQexec(handle, $0) }
  }

  private static func check(_ handle: OpaquePointer, _ result: OpaquePointer?) throws {
    defer { PQclear(result) }
    let status = PQresultStatus(result)
    guard status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK else {
      let failure = failure(handle)
      if lockStates.contains(sqlState(of: result)) { throw LockFailure(message: failure.message) }
      throw failure
    }
  }

  private static func failure(_ handle: OpaquePointer) -> DatabaseError {
    DatabaseError(kind: .other, message: "postgres: \(String(cString: PQerrorMessage(handle)))")
  }
}
