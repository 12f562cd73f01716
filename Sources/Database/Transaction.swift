/// One transaction, inside its body only. Used after its end it throws.
package final class Transaction {
  private let connection: any SQLConnection
  private(set) var commitHooks: [@Sendable () -> Void] = []
  /// What `expire` asked for.
  private(set) var maximumMilliseconds: Int?
  private var lastLock: RowLock?
  private var hasEnded = false

  init(_ connection: any SQLConnection) { self.connection = connection }

  /// Call it before rows are locked that others wait for. Throws where the order of `RowLock` is not
  /// kept, which is a mistake of ours: two such transactions could wait for each other.
  package func willLock(_ lock: RowLock) throws {
    guard lock.rawValue >= lastLock?.rawValue ?? 0 else {
      throw DatabaseError(
        kind: .other, message: "\(lock) are locked after \(lastLock.map { "\($0)" } ?? "nothing")")
    }
    lastLock = lock
  }

  /// From here on every use throws: its connection belongs to another transaction.
  func end() { hasEnded = true }

  /// Throws where the transaction has ended: for what else a body changes, besides the database.
  package func requireOpen() throws {
    if hasEnded { throw DatabaseError(kind: .other, message: "the transaction has ended") }
  }

  /// The rows of a statement.
  package func query(_ sql: SQL, _ values: [SQLValue] = []) async throws -> [Row] {
    try requireOpen()
    return try await connection.run(Statement(sql, values)).rows
  }

  /// The rows of a statement up to the first with which texts and blobs come to `bytes`; all where
  /// there is less. SQLite reads no further; on Postgres the statement itself must bound what it
  /// returns, since a result comes whole.
  package func query(
    _ sql: SQL, _ values: [SQLValue], stoppingAfter bytes: Int
  ) async throws -> [Row] {
    try requireOpen()
    return try await connection.run(Statement(sql, values), stoppingAfter: bytes).rows
  }

  /// The first row of a statement, or nil.
  package func first(_ sql: SQL, _ values: [SQLValue] = []) async throws -> Row? {
    try await query(sql, values).first
  }

  /// Runs a statement; returns how many rows it inserted, updated or deleted.
  @discardableResult
  package func execute(_ sql: SQL, _ values: [SQLValue] = []) async throws -> Int {
    try requireOpen()
    return try await connection.run(Statement(sql, values)).changes
  }

  /// Runs statements that do not depend on each other's results, in order, in one round trip.
  package func pipeline(_ statements: [Statement]) async throws -> [ResultSet] {
    try requireOpen()
    return try await connection.run(statements)
  }

  /// Waits until no other transaction, of whichever node, is past this line: for what is made once and
  /// must be one. Until the transaction ends.
  package func exclusively() async throws { _ = try await query(Self.exclusiveSQL) }

  private static let exclusiveSQL = SQL(
    // Writers come one at a time.
    sqlite: "SELECT 1", postgres: "SELECT 1 FROM pg_advisory_xact_lock(7237955317802)")

  /// As `exclusively()`, among the transactions that name the same number.
  package func exclusively(on number: Int64) async throws {
    _ = try await query(Self.exclusiveOnSQL, [.integer(number)])
  }

  private static let exclusiveOnSQL = SQL(
    sqlite: "SELECT 1", postgres: "SELECT 1 FROM pg_advisory_xact_lock($1)")

  /// Lets the commit fail with `DatabaseError.Kind.expired` where the transaction began longer ago
  /// than this by the database's own clock: for what was decided on knowledge that gets old. With
  /// SQLite, whose writer never waits for a network, it has no effect.
  package func expire(afterMilliseconds milliseconds: Int) { maximumMilliseconds = milliseconds }

  /// Calls `hook` after the commit, before the writer's caller goes on; in the order of commits on
  /// SQLite, and without an order between connections on Postgres. Not called where the transaction
  /// fails. This is where events come from.
  package func afterCommit(_ hook: @escaping @Sendable () -> Void) { commitHooks.append(hook) }
}

/// Rows that many transactions lock, in the order in which each of them must: those of one kind by
/// ascending ids, in one call. Then no two of them ever wait for each other in a circle.
package enum RowLock: Int, Sendable {
  /// The heads of rooms: who writes into a room, or changes it.
  case roomHeads = 1
  /// The versions of what accounts belong to: who changes a membership, or writes by right of one.
  case affiliationVersions = 2
}

/// A driver's connection inside a transaction.
protocol SQLConnection {
  func run(_ statement: Statement) async throws -> ResultSet
  func run(_ statements: [Statement]) async throws -> [ResultSet]
  func run(_ statement: Statement, stoppingAfter bytes: Int) async throws -> ResultSet
}
