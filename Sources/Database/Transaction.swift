/// One transaction. Usable inside its body only; later statements throw.
package final class Transaction {
  private let connection: any SQLConnection
  private(set) var commitHooks: [@Sendable () -> Void] = []
  /// The limit that `expire` set.
  private(set) var maximumMilliseconds: Int?
  private var lastLock: RowLock?
  private var hasEnded = false

  init(_ connection: any SQLConnection) { self.connection = connection }

  /// Call this before locking rows that others may wait for. Throws if the order of `RowLock` is violated, which is a
  /// bug of ours: two such transactions could deadlock.
  package func willLock(_ lock: RowLock) throws {
    guard lock.rawValue >= lastLock?.rawValue ?? 0 else {
      throw DatabaseError(
        kind: .other, message: "\(lock) are locked after \(lastLock.map { "\($0)" } ?? "nothing")")
    }
    lastLock = lock
  }

  /// Ends the transaction: every later statement throws, because the connection may belong to another transaction.
  func end() { hasEnded = true }

  /// Throws if the transaction has ended. For bodies that change other state besides the database.
  package func requireOpen() throws {
    if hasEnded { throw DatabaseError(kind: .other, message: "the transaction has ended") }
  }

  /// Returns the rows of a statement.
  package func query(_ sql: SQL, _ values: [SQLValue] = []) async throws -> [Row] {
    try requireOpen()
    return try await connection.run(Statement(sql, values)).rows
  }

  /// Returns the rows of a statement, up to and including the row with which the texts and blobs reach `bytes` in
  /// total; all rows if they have less. SQLite stops reading there. On Postgres all rows are returned, so the statement
  /// itself must bound its result.
  package func query(
    _ sql: SQL, _ values: [SQLValue], stoppingAfter bytes: Int
  ) async throws -> [Row] {
    try requireOpen()
    return try await connection.run(Statement(sql, values), stoppingAfter: bytes).rows
  }

  /// Returns the first row of a statement, or nil.
  package func first(_ sql: SQL, _ values: [SQLValue] = []) async throws -> Row? {
    try await query(sql, values).first
  }

  /// Runs a statement. Returns how many rows it inserted, updated or deleted.
  @discardableResult
  package func execute(_ sql: SQL, _ values: [SQLValue] = []) async throws -> Int {
    try requireOpen()
    return try await connection.run(Statement(sql, values)).changes
  }

  /// Runs statements that do not depend on each other's results, in order and in one round trip.
  package func pipeline(_ statements: [Statement]) async throws -> [ResultSet] {
    try requireOpen()
    return try await connection.run(statements)
  }

  /// Waits until every other transaction that has called this has ended, on any node. Then keeps the others waiting
  /// until this one ends. For things that must be made only once. No effect on SQLite, which has one writer.
  package func exclusively() async throws { _ = try await query(Self.exclusiveSQL) }

  private static let exclusiveSQL = SQL(
    // SQLite has only one writer at a time.
    sqlite: "SELECT 1", postgres: "SELECT 1 FROM pg_advisory_xact_lock(7237955317802)")

  /// The same as `exclusively()`, but only among transactions that name the same number.
  package func exclusively(on number: Int64) async throws {
    _ = try await query(Self.exclusiveOnSQL, [.integer(number)])
  }

  private static let exclusiveOnSQL = SQL(
    sqlite: "SELECT 1", postgres: "SELECT 1 FROM pg_advisory_xact_lock($1)")

  /// Makes the commit fail with `DatabaseError.Kind.expired` if the transaction began longer ago than this, by the
  /// database's own clock. For decisions based on knowledge that becomes outdated. No effect on SQLite, whose writer
  /// never waits for a network.
  package func expire(afterMilliseconds milliseconds: Int) { maximumMilliseconds = milliseconds }

  /// Calls `hook` after the commit, before the caller of `write` continues. On SQLite hooks run in commit order; on
  /// Postgres there is no order between connections. Not called if the transaction fails. Events are published by these
  /// hooks.
  package func afterCommit(_ hook: @escaping @Sendable () -> Void) { commitHooks.append(hook) }
}

/// The kinds of rows that many transactions lock, in the order in which each transaction must lock them. All rows of
/// one kind are locked together, by ascending id. This prevents deadlocks.
package enum RowLock: Int, Sendable {
  /// Teams, locked to change them or their members, and to make a dialog between two members.
  case teams = 0
  /// The heads of rooms, locked to write into a room or to change it.
  case roomHeads = 1
  /// The versions of memberships, locked to change a membership, or to write with a permission that depends on one.
  case affiliationVersions = 2
}

/// A driver's connection inside a transaction.
protocol SQLConnection {
  func run(_ statement: Statement) async throws -> ResultSet
  func run(_ statements: [Statement]) async throws -> [ResultSet]
  func run(_ statement: Statement, stoppingAfter bytes: Int) async throws -> ResultSet
}
