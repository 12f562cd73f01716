package import Basics
package import Database

/// What other features read about accounts: facts that need no right, because those who ask have checked theirs.
package enum People {
  /// Reads the names of those of the ids that belong to accounts, also to erased ones.
  package static func names(
    of users: [UserID], in transaction: Transaction
  ) async throws -> [UserID: String] {
    if users.isEmpty { return [:] }
    var names: [UserID: String] = [:]
    for row in try await transaction.query(namesSQL, [.ids(users)]) {
      names[try row.id(0)] = try row.text(1)
    }
    return names
  }

  /// Returns those of the ids whose accounts were erased.
  static func erased(
    among users: [UserID], in transaction: Transaction
  ) async throws -> Set<UserID> {
    if users.isEmpty { return [] }
    return Set(try await transaction.query(erasedSQL, [.ids(users)]).map { try $0.id(0) })
  }

  /// Whether this is an account that was erased.
  package static func isErased(_ user: UserID, in transaction: Transaction) async throws -> Bool {
    try await !erased(among: [user], in: transaction).isEmpty
  }

  // `$1` is a list of ids (`SQLValue.ids`).

  private static let erasedSQL = SQL(
    sqlite: """
      WITH RECURSIVE list (i) AS (
        SELECT 0 UNION ALL SELECT i + 1 FROM list WHERE (i + 1) * 16 < length($1))
      SELECT id FROM users
      WHERE id IN (SELECT substr($1, i * 16 + 1, 16) FROM list) AND erased_at IS NOT NULL
      """,
    postgres: """
      SELECT id FROM users WHERE id IN (
        SELECT substring($1::bytea FROM i * 16 + 1 FOR 16)
        FROM generate_series(0, length($1::bytea) / 16 - 1) AS i) AND erased_at IS NOT NULL
      """)

  private static let namesSQL = SQL(
    sqlite: """
      WITH RECURSIVE list (i) AS (
        SELECT 0 UNION ALL SELECT i + 1 FROM list WHERE (i + 1) * 16 < length($1))
      SELECT id, name FROM users WHERE id IN (SELECT substr($1, i * 16 + 1, 16) FROM list)
      """,
    postgres: """
      SELECT id, name FROM users WHERE id IN (
        SELECT substring($1::bytea FROM i * 16 + 1 FOR 16)
        FROM generate_series(0, length($1::bytea) / 16 - 1) AS i)
      """)

  /// Returns those of the users whose settings say that nobody may know what they have read (`"seen":false`), and those
  /// whose accounts were erased.
  package static func hidingWhatTheyRead(
    among users: [UserID], in transaction: Transaction
  ) async throws -> Set<UserID> {
    if users.isEmpty { return [] }
    return Set(try await transaction.query(hidingSQL, [.ids(users)]).map { try $0.id(0) })
  }

  private static let hidingSQL = SQL(
    sqlite: """
      WITH RECURSIVE list (i) AS (
        SELECT 0 UNION ALL SELECT i + 1 FROM list WHERE (i + 1) * 16 < length($1))
      SELECT id FROM users WHERE id IN (SELECT substr($1, i * 16 + 1, 16) FROM list)
        AND (json_type(settings, '$.seen') = 'false' OR erased_at IS NOT NULL)
      """,
    postgres: """
      SELECT id FROM users WHERE id IN (
        SELECT substring($1::bytea FROM i * 16 + 1 FOR 16)
        FROM generate_series(0, length($1::bytea) / 16 - 1) AS i)
        AND (erased_at IS NOT NULL
          OR settings::json -> 'seen' IS NOT NULL AND settings::json ->> 'seen' = 'false'
            AND json_typeof(settings::json -> 'seen') = 'boolean')
      """)

  /// Reads what the database knows about the presence of accounts.
  package static func presence(
    of users: [UserID], in transaction: Transaction
  ) async throws -> [UserID: PresenceFacts] {
    if users.isEmpty { return [:] }
    var facts: [UserID: PresenceFacts] = [:]
    for row in try await transaction.query(presenceSQL, [.ids(users)]) {
      facts[try row.id(0)] = PresenceFacts(
        hidesPresence: try row.integer(1) != 0, lastSeenAt: try row.optional(2, row.time))
    }
    return facts
  }

  private static let presenceSQL = SQL(
    sqlite: """
      WITH RECURSIVE list (i) AS (
        SELECT 0 UNION ALL SELECT i + 1 FROM list WHERE (i + 1) * 16 < length($1))
      SELECT id, coalesce(json_extract(settings, '$.presence') = 'offline', 0),
        (SELECT max(last_seen_at) FROM sessions WHERE user_id = users.id)
      FROM users WHERE id IN (SELECT substr($1, i * 16 + 1, 16) FROM list)
      """,
    postgres: """
      SELECT id, CASE WHEN json_typeof(settings::json -> 'presence') = 'string'
          AND settings::json ->> 'presence' = 'offline' THEN 1::bigint ELSE 0::bigint END,
        (SELECT max(last_seen_at) FROM sessions WHERE user_id = users.id)
      FROM users WHERE id IN (
        SELECT substring($1::bytea FROM i * 16 + 1 FOR 16)
        FROM generate_series(0, length($1::bytea) / 16 - 1) AS i)
      """)

  /// Returns which of these users are blocked by another one of them.
  package static func blocked(
    among users: [UserID], in transaction: Transaction
  ) async throws -> [(user: UserID, blocked: UserID)] {
    users.isEmpty ? [] : try await BlockStore.among(users, in: transaction)
  }

  /// Throws `blocked` if `other` blocks the user.
  package static func requireNotBlocked(
    _ user: UserID, by other: UserID, in transaction: Transaction
  ) async throws {
    if try await BlockStore.createdAt(user, for: other, in: transaction) != nil {
      throw AppError(.blocked)
    }
  }

  /// Whether there is such an account.
  package static func exists(_ user: UserID, in transaction: Transaction) async throws -> Bool {
    try await AccountStore.user(user, in: transaction) != nil
  }

  /// Locks a team, and tells whether it is active. Nil if it does not exist. Nobody joins or leaves it until the
  /// transaction ends.
  package static func lockTeam(_ team: TeamID, in transaction: Transaction) async throws -> Bool? {
    try await TeamStore.teamForUpdate(team, in: transaction)?.isActive
  }

  /// Whether the user is in the team.
  package static func isMember(
    _ user: UserID, of team: TeamID, in transaction: Transaction
  ) async throws -> Bool {
    try await TeamStore.role(of: user, in: team, transaction) != nil
  }

  /// Reads the numbers of members of teams. Teams that do not exist are left out.
  package static func memberCounts(
    of teams: [TeamID], in transaction: Transaction
  ) async throws -> [TeamID: Int64] {
    if teams.isEmpty { return [:] }
    var counts: [TeamID: Int64] = [:]
    for row in try await transaction.query(memberCountsSQL, [.ids(teams)]) {
      counts[try row.id(0)] = try row.integer(1)
    }
    return counts
  }

  private static let memberCountsSQL = SQL(
    sqlite: """
      WITH RECURSIVE list (i) AS (
        SELECT 0 UNION ALL SELECT i + 1 FROM list WHERE (i + 1) * 16 < length($1))
      SELECT id, member_count FROM teams WHERE id IN (SELECT substr($1, i * 16 + 1, 16) FROM list)
      """,
    postgres: """
      SELECT id, member_count FROM teams WHERE id IN (
        SELECT substring($1::bytea FROM i * 16 + 1 FOR 16)
        FROM generate_series(0, length($1::bytea) / 16 - 1) AS i)
      """)
}

/// What the database knows about somebody's presence.
package struct PresenceFacts: Sendable, Equatable {
  /// Whether their settings say that nobody may know whether they are present (`"presence":"offline"`).
  package let hidesPresence: Bool
  /// When one of their sessions was last used, to the minute; nil if there is none.
  package let lastSeenAt: Timestamp?

  package init(hidesPresence: Bool = false, lastSeenAt: Timestamp? = nil) {
    self.hidesPresence = hidesPresence
    self.lastSeenAt = lastSeenAt
  }
}
