internal import Basics
internal import Database

/// The SQL of users and sessions, and nothing else. Runs inside the caller's transaction.
enum AccountStore {
  // MARK: Users

  /// Returns false if the address is taken, ignoring case.
  static func insert(
    _ user: User, passwordHash: String, at time: Timestamp, in transaction: Transaction
  ) async throws -> Bool {
    try await transaction.execute(
      """
      INSERT INTO users (id, email, email_key, name, password_hash, is_platform_admin, settings,
        created_at)
      VALUES ($1, $2, $3, $4, $5, $6, '{}', $7) ON CONFLICT (email_key) DO NOTHING
      """,
      [
        .id(user.id), .text(user.email), .text(key(user.email)), .text(user.name),
        .text(passwordHash), .bool(user.isPlatformAdmin), .time(time),
      ]) == 1
  }

  /// The form in which an address must be unique.
  ///
  /// Approximates Unicode's simple case folding by converting to upper case first, since letters with two lower-case
  /// forms (σ and ς) have one upper-case form. Letters that would become several (ß) are kept, and so is the dotless
  /// i, which only looks like an i.
  static func key(_ email: String) -> String {
    var key = ""
    for scalar in email.unicodeScalars {
      let upper = scalar.properties.uppercaseMapping.unicodeScalars
      if scalar != "\u{131}", upper.count == 1, let first = upper.first {
        key += first.properties.lowercaseMapping
      } else {
        key += scalar.properties.lowercaseMapping
      }
    }
    return key
  }

  static func user(
    email: String, in transaction: Transaction
  ) async throws -> (user: User, passwordHash: String)? {
    try await transaction.first(
      """
      SELECT id, email, name, is_platform_admin, suspended_at, password_hash FROM users
      WHERE email_key = $1 AND erased_at IS NULL
      """, [.text(key(email))]
    ).map { (try user($0), try $0.text(5)) }
  }

  /// The same as `user`, and locks the account until this transaction ends.
  static func userForChange(
    email: String, in transaction: Transaction
  ) async throws -> (user: User, passwordHash: String)? {
    try await transaction.first(
      SQL(
        sqlite: """
          SELECT id, email, name, is_platform_admin, suspended_at, password_hash FROM users
          WHERE email_key = $1 AND erased_at IS NULL
          """,
        postgres: """
          SELECT id, email, name, is_platform_admin, suspended_at, password_hash FROM users
          WHERE email_key = $1 AND erased_at IS NULL FOR NO KEY UPDATE
          """), [.text(key(email))]
    ).map { (try user($0), try $0.text(5)) }
  }

  /// The same by the id.
  static func userForChange(_ id: UserID, in transaction: Transaction) async throws -> User? {
    try await transaction.first(
      SQL(
        sqlite: """
          SELECT id, email, name, is_platform_admin, suspended_at FROM users
          WHERE id = $1 AND erased_at IS NULL
          """,
        postgres: """
          SELECT id, email, name, is_platform_admin, suspended_at FROM users
          WHERE id = $1 AND erased_at IS NULL FOR NO KEY UPDATE
          """), [.id(id)]
    ).map(user)
  }

  static func hasUsers(in transaction: Transaction) async throws -> Bool {
    try await transaction.first("SELECT 1 FROM users WHERE erased_at IS NULL LIMIT 1") != nil
  }

  /// Nil if there is no such account, or if it was erased.
  static func user(_ id: UserID, in transaction: Transaction) async throws -> User? {
    try await transaction.first(
      """
      SELECT id, email, name, is_platform_admin, suspended_at FROM users
      WHERE id = $1 AND erased_at IS NULL
      """, [.id(id)]
    ).map(user)
  }

  /// Accounts after `after`, in the order of their ids, which is the order of creation to the millisecond.
  /// `onlySpecial` selects platform admins and suspended accounts.
  static func users(
    after: UserID, onlySpecial: Bool, limit: Int64, in transaction: Transaction
  ) async throws -> [(user: User, createdAt: Timestamp)] {
    try await transaction.query(
      """
      SELECT id, email, name, is_platform_admin, suspended_at, created_at FROM users
      WHERE id > $1 AND (CAST($2 AS BIGINT) = 0 OR is_platform_admin = 1 OR suspended_at IS NOT NULL)
        AND erased_at IS NULL
      ORDER BY id LIMIT $3
      """, [.id(after), .bool(onlySpecial), .integer(limit)]
    ).map { (try user($0), try $0.time(5)) }
  }

  /// Reads accounts, the newest first, behind a place in that order.
  static func summaries(
    behind place: (time: Timestamp, id: UserID)?, limit: Int, in transaction: Transaction
  ) async throws -> [AccountSummary] {
    try await transaction.query(
      """
      SELECT id, email, name, is_platform_admin, suspended_at, created_at, suspension_reason,
        (SELECT max(last_seen_at) FROM sessions WHERE user_id = users.id)
      FROM users
      WHERE (created_at < $1 OR (created_at = $1 AND id < $2)) AND erased_at IS NULL
      ORDER BY created_at DESC, id DESC LIMIT $3
      """,
      [
        .time(place?.time ?? .latest), .id(place?.id ?? UserID(.zero)), .integer(Int64(limit)),
      ]
    ).map(summary)
  }

  static func summary(
    _ id: UserID, in transaction: Transaction
  ) async throws -> AccountSummary? {
    try await transaction.first(
      """
      SELECT id, email, name, is_platform_admin, suspended_at, created_at, suspension_reason,
        (SELECT max(last_seen_at) FROM sessions WHERE user_id = users.id)
      FROM users WHERE id = $1 AND erased_at IS NULL
      """, [.id(id)]
    ).map(summary)
  }

  private static func summary(_ row: Row) throws -> AccountSummary {
    AccountSummary(
      user: try user(row), createdAt: try row.time(5),
      suspendedAt: try row.optional(4, row.time),
      suspensionReason: try row.optional(6, row.text), lastSeenAt: try row.optional(7, row.time))
  }

  private static func user(_ row: Row) throws -> User {
    User(
      id: try row.id(0), email: try row.text(1), name: try row.text(2),
      isPlatformAdmin: try row.bool(3), isSuspended: !row.isNull(4))
  }

  /// What others find an account by.
  struct Found: Sendable {
    let id: UserID
    let name: String
    let emailKey: String
  }

  /// Reads accounts in the order of their ids: those of these ids, or if that is nil, all behind `after`; at most `limit`.
  static func accounts(
    _ ids: [UserID]?, after: UserID?, limit: Int, in transaction: Transaction
  ) async throws -> [Found] {
    let rows =
      if let ids {
        try await transaction.query(accountsSQL, [.ids(ids)])
      } else {
        try await transaction.query(
          """
          SELECT id, name, email_key FROM users WHERE id > $1 AND erased_at IS NULL
          ORDER BY id LIMIT $2
          """,
          [.uuid(after?.uuid ?? .zero), .integer(Int64(limit))])
      }
    return try rows.map {
      Found(id: try $0.id(0), name: try $0.text(1), emailKey: try $0.text(2))
    }
  }

  private static let accountsSQL = SQL(
    sqlite: """
      WITH RECURSIVE list (i) AS (
        SELECT 0 UNION ALL SELECT i + 1 FROM list WHERE (i + 1) * 16 < length($1))
      SELECT id, name, email_key FROM users
      WHERE id IN (SELECT substr($1, i * 16 + 1, 16) FROM list) AND erased_at IS NULL ORDER BY id
      """,
    postgres: """
      SELECT id, name, email_key FROM users WHERE id IN (
        SELECT substring($1::bytea FROM i * 16 + 1 FOR 16)
        FROM generate_series(0, length($1::bytea) / 16 - 1) AS i)
        AND erased_at IS NULL ORDER BY id
      """)

  static func passwordHash(_ id: UserID, in transaction: Transaction) async throws -> String? {
    try await transaction.first(
      "SELECT password_hash FROM users WHERE id = $1", [.id(id)])?.text(0)
  }

  static func setPasswordHash(
    _ hash: String, of id: UserID, in transaction: Transaction
  ) async throws {
    try await transaction.execute(
      "UPDATE users SET password_hash = $2 WHERE id = $1", [.id(id), .text(hash)])
  }

  static func setName(_ name: String, of id: UserID, in transaction: Transaction) async throws {
    try await transaction.execute(
      "UPDATE users SET name = $2 WHERE id = $1", [.id(id), .text(name)])
  }

  static func settings(_ id: UserID, in transaction: Transaction) async throws -> String? {
    try await transaction.first("SELECT settings FROM users WHERE id = $1", [.id(id)])?.text(0)
  }

  static func setSettings(
    _ settings: String, of id: UserID, in transaction: Transaction
  ) async throws {
    try await transaction.execute(
      "UPDATE users SET settings = $2 WHERE id = $1", [.id(id), .text(settings)])
  }

  static func setPlatformAdmin(
    _ isAdmin: Bool, of id: UserID, in transaction: Transaction
  ) async throws {
    try await transaction.execute(
      "UPDATE users SET is_platform_admin = $2 WHERE id = $1", [.id(id), .bool(isAdmin)])
  }

  /// A time of nil means not suspended.
  static func setSuspended(
    at time: Timestamp?, reason: String?, _ id: UserID, in transaction: Transaction
  ) async throws {
    try await transaction.execute(
      "UPDATE users SET suspended_at = $2, suspension_reason = $3 WHERE id = $1",
      [.id(id), .optional(time) { .time($0) }, .optional(reason) { .text($0) }])
  }

  /// Removes everything that says who somebody was, and everything that others have noted about the account. The row
  /// itself remains, because messages refer to it. Returns false if there is no such account any more.
  static func erase(
    _ id: UserID, at time: Timestamp, in transaction: Transaction
  ) async throws -> Bool {
    // No address is equal to an id, so the address is free again.
    let count = try await transaction.execute(
      """
      UPDATE users SET email = '', email_key = $2, name = 'Deleted user', password_hash = '',
        is_platform_admin = 0, settings = '{}', suspended_at = NULL, suspension_reason = NULL,
        erased_at = $3
      WHERE id = $1 AND erased_at IS NULL
      """, [.id(id), .text(id.description), .time(time)])
    guard count == 1 else { return false }
    _ = try await transaction.pipeline([
      Statement(
        "UPDATE sessions SET ip = '', user_agent = '', data = '{}' WHERE user_id = $1", [.id(id)]),
      Statement("DELETE FROM memberships WHERE user_id = $1", [.id(id)]),
      Statement("DELETE FROM team_invitations WHERE user_id = $1 OR invited_by = $1", [.id(id)]),
      Statement("DELETE FROM blocks WHERE user_id = $1 OR blocked_id = $1", [.id(id)]),
    ])
    return true
  }

  // MARK: Sessions

  static func insert(
    _ id: SessionID, of user: UserID, _ client: ClientDescription, at time: Timestamp,
    in transaction: Transaction
  ) async throws {
    try await transaction.execute(
      """
      INSERT INTO sessions (id, user_id, refresh_count, ip, user_agent, data, created_at, last_seen_at)
      VALUES ($1, $2, 0, $3, $4, $5, $6, $6)
      """,
      [
        .id(id), .id(user), .text(client.ip), .text(client.userAgent), .text(client.data),
        .time(time),
      ])
  }

  /// The user of a session that has not ended, and the number of its refreshes.
  static func session(
    _ id: SessionID, in transaction: Transaction
  ) async throws -> (user: UserID, refreshCount: Int64)? {
    try await transaction.first(
      "SELECT user_id, refresh_count FROM sessions WHERE id = $1 AND ended_at IS NULL", [.id(id)]
    ).map { (try $0.id(0), try $0.integer(1)) }
  }

  /// Counts a refresh. Returns false if another one came first.
  static func countRefresh(
    _ id: SessionID, from count: Int64, at time: Timestamp, in transaction: Transaction
  ) async throws -> Bool {
    try await transaction.execute(
      """
      UPDATE sessions SET refresh_count = refresh_count + 1,
        last_seen_at = CASE WHEN last_seen_at <= $4 THEN $3 ELSE last_seen_at END
      WHERE id = $1 AND refresh_count = $2 AND ended_at IS NULL
      """,
      [
        .id(id), .integer(count), .time(time),
        .time(time.adding(milliseconds: -SessionActivity.everyMilliseconds)),
      ]) == 1
  }

  /// A user's sessions, newest first, after one of them.
  static func sessions(
    of user: UserID, behind place: (time: Timestamp, id: SessionID)?, limit: Int,
    in transaction: Transaction
  ) async throws -> [Session] {
    try await transaction.query(
      """
      SELECT id, user_id, ip, user_agent, data, created_at, last_seen_at FROM sessions
      WHERE user_id = $1 AND ended_at IS NULL AND (created_at < $2 OR (created_at = $2 AND id > $3))
      ORDER BY created_at DESC, id LIMIT $4
      """,
      [
        .id(user), .time(place?.time ?? Timestamp(milliseconds: .max)),
        .id(place?.id ?? SessionID(.zero)), .integer(Int64(limit)),
      ]
    ).map {
      Session(
        id: try $0.id(0), userID: try $0.id(1), ip: try $0.text(2), userAgent: try $0.text(3),
        data: try $0.text(4), createdAt: try $0.time(5), lastSeenAt: try $0.time(6))
    }
  }

  /// Returns false if the user has no such session, or if it has ended.
  static func end(
    _ id: SessionID, of user: UserID, at time: Timestamp, in transaction: Transaction
  ) async throws -> Bool {
    try await transaction.execute(
      "UPDATE sessions SET ended_at = $3 WHERE id = $1 AND user_id = $2 AND ended_at IS NULL",
      [.id(id), .id(user), .time(time)]) == 1
  }

  /// Ends all sessions of a user except `kept`. Returns those it ended.
  static func endAll(
    of user: UserID, but kept: SessionID?, at time: Timestamp, in transaction: Transaction
  ) async throws -> [SessionID] {
    try await transaction.query(
      """
      UPDATE sessions SET ended_at = $2 WHERE user_id = $1 AND ended_at IS NULL AND id <> $3
      RETURNING id
      """, [.id(user), .time(time), .id(kept ?? SessionID(.zero))]
    ).map { try $0.id(0) }
  }

  /// Ids above `after`, ascending, at most `limit`, of sessions that nobody needs any more: ended before a moment, or
  /// not used since another one. Also returns the id up to which was searched.
  static func uselessSessions(
    endedBefore ended: Timestamp, unusedSince unused: Timestamp, after: SessionID, limit: Int64,
    in transaction: Transaction
  ) async throws -> (ids: [SessionID], lookedUpTo: SessionID?) {
    let rows = try await transaction.query(
      """
      SELECT id, CASE WHEN ended_at < $2 OR last_seen_at < $3 THEN 1 ELSE 0 END
      FROM sessions WHERE id > $1 ORDER BY id LIMIT $4
      """, [.id(after), .time(ended), .time(unused), .integer(limit)])
    let ids: [SessionID] = try rows.filter { try !$0.isNull(1) && $0.bool(1) }.map { try $0.id(0) }
    return (ids, try rows.last?.id(0))
  }

  static func remove(_ sessions: [SessionID], in transaction: Transaction) async throws {
    _ = try await transaction.pipeline(
      sessions.map { Statement("DELETE FROM sessions WHERE id = $1", [.id($0)]) })
  }

  /// Notes that a session was used, unless that was noted within the last minute.
  static func touch(_ id: SessionID, at time: Timestamp) -> Statement {
    Statement(
      "UPDATE sessions SET last_seen_at = $2 WHERE id = $1 AND last_seen_at <= $3",
      [.id(id), .time(time), .time(time.adding(milliseconds: -SessionActivity.everyMilliseconds))])
  }

  // MARK: Keys

  static func signingKeys(in transaction: Transaction) async throws -> [(id: String, seed: [UInt8])]
  {
    try await transaction.query("SELECT id, seed FROM signing_keys ORDER BY created_at DESC, id")
      .map {
        (try $0.text(0), try $0.blob(1))
      }
  }

  static func insertSigningKey(
    id: String, seed: [UInt8], at time: Timestamp, in transaction: Transaction
  ) async throws {
    try await transaction.execute(
      "INSERT INTO signing_keys (id, seed, created_at) VALUES ($1, $2, $3)",
      [.text(id), .blob(seed), .time(time)])
  }
}
