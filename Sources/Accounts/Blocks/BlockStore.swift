internal import Basics
internal import Database

/// The table of who blocks whom.
enum BlockStore {
  /// Returns whether this is new.
  static func add(
    _ blocked: UserID, for user: UserID, at time: Timestamp, in transaction: Transaction
  ) async throws -> Bool {
    try await transaction.first(
      """
      INSERT INTO blocks (user_id, blocked_id, created_at) VALUES ($1, $2, $3)
      ON CONFLICT DO NOTHING RETURNING blocked_id
      """, [.id(user), .id(blocked), .time(time)]) != nil
  }

  /// Returns whether there was one.
  static func remove(
    _ blocked: UserID, for user: UserID, in transaction: Transaction
  ) async throws -> Bool {
    try await transaction.first(
      "DELETE FROM blocks WHERE user_id = $1 AND blocked_id = $2 RETURNING blocked_id",
      [.id(user), .id(blocked)]) != nil
  }

  static func createdAt(
    _ blocked: UserID, for user: UserID, in transaction: Transaction
  ) async throws -> Timestamp? {
    try await transaction.first(
      "SELECT created_at FROM blocks WHERE user_id = $1 AND blocked_id = $2",
      [.id(user), .id(blocked)])?.time(0)
  }

  /// Returns whom a user blocks, in the order of their ids, behind `after`.
  static func blocked(
    by user: UserID, after: UserID?, limit: Int, in transaction: Transaction
  ) async throws -> [(user: UserID, name: String, createdAt: Timestamp)] {
    try await transaction.query(
      """
      SELECT b.blocked_id, u.name, b.created_at FROM blocks b JOIN users u ON u.id = b.blocked_id
      WHERE b.user_id = $1 AND b.blocked_id > $2 ORDER BY b.blocked_id LIMIT $3
      """, [.id(user), .uuid(after?.uuid ?? .zero), .integer(Int64(limit))]
    ).map { (try $0.id(0), try $0.text(1), try $0.time(2)) }
  }

  /// Returns whom each of these users blocks among them.
  static func among(
    _ users: [UserID], in transaction: Transaction
  ) async throws -> [(user: UserID, blocked: UserID)] {
    try await transaction.query(amongSQL, [.ids(users)]).map { (try $0.id(0), try $0.id(1)) }
  }

  private static let amongSQL = SQL(
    sqlite: """
      WITH RECURSIVE list (i) AS (
        SELECT 0 UNION ALL SELECT i + 1 FROM list WHERE (i + 1) * 16 < length($1)),
        people (id) AS (SELECT substr($1, i * 16 + 1, 16) FROM list)
      SELECT user_id, blocked_id FROM blocks
      WHERE user_id IN (SELECT id FROM people) AND blocked_id IN (SELECT id FROM people)
      """,
    postgres: """
      WITH people (id) AS (
        SELECT substring($1::bytea FROM i * 16 + 1 FOR 16)
        FROM generate_series(0, length($1::bytea) / 16 - 1) AS i)
      SELECT user_id, blocked_id FROM blocks
      WHERE user_id IN (SELECT id FROM people) AND blocked_id IN (SELECT id FROM people)
      """)
}
