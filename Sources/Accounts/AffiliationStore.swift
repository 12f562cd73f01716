internal import Access
internal import Basics
internal import Database

/// The SQL of memberships, and nothing else. Runs inside the caller's transaction.
enum AffiliationStore {
  /// The memberships of accounts. An unknown account has none.
  static func affiliations(
    of users: [UserID], in transaction: Transaction
  ) async throws -> [UserID: Affiliations] {
    let ids = SQLValue.ids(users)
    let results = try await transaction.pipeline([
      Statement(versionsSQL, [ids]), Statement(organizationsSQL, [ids]),
      Statement(teamsSQL, [ids]), Statement(platformSQL, [ids]),
    ])
    guard results.count == 4 else { throw DatabaseError(kind: .other, message: "no results") }
    var versions: [UserID: Int64] = [:]
    for row in results[0].rows { versions[try row.id(0)] = try row.integer(1) }
    var organizations: [UserID: [OrganizationID: OrganizationRole]] = [:]
    for row in results[1].rows {
      // A role that only a newer release knows counts as the lowest: nothing is allowed by default.
      organizations[try row.id(0), default: [:]][try row.id(1)] =
        OrganizationRole(rawValue: try row.text(2)) ?? .statusReporter
    }
    var teams: [UserID: [TeamID: TeamMembership]] = [:]
    for row in results[2].rows {
      teams[try row.id(0), default: [:]][try row.id(1)] = TeamMembership(
        TeamRole(rawValue: try row.text(2)) ?? .user, channel: try row.optional(3, row.room))
    }
    let platformAdmins: Set<UserID> = Set(try results[3].rows.map { try $0.id(0) })
    var affiliations: [UserID: Affiliations] = [:]
    for user in users {
      affiliations[user] = Affiliations(
        version: versions[user] ?? 0, organizations: organizations[user] ?? [:],
        teams: teams[user] ?? [:], isPlatformAdmin: platformAdmins.contains(user))
    }
    return affiliations
  }

  // `$1` is a list of ids (`SQLValue.ids`).

  private static let versionsSQL = SQL(
    sqlite: """
      WITH RECURSIVE list (i) AS (
        SELECT 0 UNION ALL SELECT i + 1 FROM list WHERE (i + 1) * 16 < length($1))
      SELECT user_id, version FROM affiliation_versions
      WHERE user_id IN (SELECT substr($1, i * 16 + 1, 16) FROM list)
      """,
    postgres: """
      SELECT user_id, version FROM affiliation_versions WHERE user_id IN (
        SELECT substring($1::bytea FROM i * 16 + 1 FOR 16)
        FROM generate_series(0, length($1::bytea) / 16 - 1) AS i)
      """)

  private static let organizationsSQL = SQL(
    sqlite: """
      WITH RECURSIVE list (i) AS (
        SELECT 0 UNION ALL SELECT i + 1 FROM list WHERE (i + 1) * 16 < length($1))
      SELECT user_id, organization_id, role FROM memberships
      WHERE user_id IN (SELECT substr($1, i * 16 + 1, 16) FROM list)
      """,
    postgres: """
      SELECT user_id, organization_id, role FROM memberships WHERE user_id IN (
        SELECT substring($1::bytea FROM i * 16 + 1 FOR 16)
        FROM generate_series(0, length($1::bytea) / 16 - 1) AS i)
      """)

  private static let teamsSQL = SQL(
    sqlite: """
      WITH RECURSIVE list (i) AS (
        SELECT 0 UNION ALL SELECT i + 1 FROM list WHERE (i + 1) * 16 < length($1))
      SELECT m.user_id, m.team_id, m.role, t.room_id
      FROM team_members m JOIN teams t ON t.id = m.team_id
      WHERE m.user_id IN (SELECT substr($1, i * 16 + 1, 16) FROM list) AND t.deleted_at IS NULL
      """,
    postgres: """
      SELECT m.user_id, m.team_id, m.role, t.room_id
      FROM team_members m JOIN teams t ON t.id = m.team_id
      WHERE m.user_id IN (
        SELECT substring($1::bytea FROM i * 16 + 1 FOR 16)
        FROM generate_series(0, length($1::bytea) / 16 - 1) AS i) AND t.deleted_at IS NULL
      """)

  private static let platformSQL = SQL(
    sqlite: """
      WITH RECURSIVE list (i) AS (
        SELECT 0 UNION ALL SELECT i + 1 FROM list WHERE (i + 1) * 16 < length($1))
      SELECT id FROM users
      WHERE id IN (SELECT substr($1, i * 16 + 1, 16) FROM list) AND is_platform_admin = 1
      """,
    postgres: """
      SELECT id FROM users WHERE id IN (
        SELECT substring($1::bytea FROM i * 16 + 1 FOR 16)
        FROM generate_series(0, length($1::bytea) / 16 - 1) AS i) AND is_platform_admin = 1
      """)

  /// Raises the versions of the memberships. Decisions that were based on older versions are checked again.
  static func raiseVersions(
    of users: [UserID], in transaction: Transaction
  ) async throws -> [UserID: Int64] {
    try transaction.willLock(.affiliationVersions)
    let rows = try await transaction.query(raiseSQL, [.ids(users)])
    var versions: [UserID: Int64] = [:]
    for row in rows { versions[try row.id(0)] = try row.integer(1) }
    return versions
  }

  /// In the order of the ids, so that two transactions never wait for each other.
  private static let raiseSQL = SQL(
    sqlite: """
      WITH RECURSIVE list (i) AS (
        SELECT 0 UNION ALL SELECT i + 1 FROM list WHERE (i + 1) * 16 < length($1))
      INSERT INTO affiliation_versions (user_id, version)
        SELECT substr($1, i * 16 + 1, 16), 1 FROM list WHERE length($1) > 0
      ON CONFLICT (user_id) DO UPDATE SET version = affiliation_versions.version + 1
      RETURNING user_id, version
      """,
    postgres: """
      INSERT INTO affiliation_versions (user_id, version)
        SELECT id, 1 FROM (
          SELECT DISTINCT substring($1::bytea FROM i * 16 + 1 FOR 16) AS id
          FROM generate_series(0, length($1::bytea) / 16 - 1) AS i) AS list
        ORDER BY id
      ON CONFLICT (user_id) DO UPDATE SET version = affiliation_versions.version + 1
      RETURNING user_id, version
      """)

  // MARK: Changes

  static func setRole(
    _ role: OrganizationRole, of user: UserID, in organization: OrganizationID, at time: Timestamp,
    _ transaction: Transaction
  ) async throws {
    try await transaction.execute(
      """
      INSERT INTO memberships (organization_id, user_id, role, created_at) VALUES ($1, $2, $3, $4)
      ON CONFLICT (organization_id, user_id) DO UPDATE SET role = excluded.role
      """, [.id(organization), .id(user), .text(role.rawValue), .time(time)])
  }

  /// Returns false if the user was not a member.
  static func remove(
    _ user: UserID, from organization: OrganizationID, _ transaction: Transaction
  ) async throws -> Bool {
    try await transaction.execute(
      "DELETE FROM memberships WHERE organization_id = $1 AND user_id = $2",
      [.id(organization), .id(user)]) > 0
  }

  static func setRole(
    _ role: TeamRole, of user: UserID, in team: TeamID, at time: Timestamp,
    _ transaction: Transaction
  ) async throws {
    try await transaction.execute(
      """
      INSERT INTO team_members (team_id, user_id, role, created_at) VALUES ($1, $2, $3, $4)
      ON CONFLICT (team_id, user_id) DO UPDATE SET role = excluded.role
      """, [.id(team), .id(user), .text(role.rawValue), .time(time)])
  }

  /// Returns false if the user was not a member.
  static func remove(
    _ user: UserID, from team: TeamID, _ transaction: Transaction
  ) async throws -> Bool {
    try await transaction.execute(
      "DELETE FROM team_members WHERE team_id = $1 AND user_id = $2", [.id(team), .id(user)]) > 0
  }

  // MARK: Ids of this server

  /// Tells for each question whether one of its ids belongs, or ever belonged, to an account, an organization or a
  /// team. Their rows remain when they are deleted.
  static func readTaken(
    _ questions: [[UUID]], in transaction: Transaction
  ) async throws -> NameCheck.Reading {
    let results = try await transaction.pipeline(
      [Statement(unusualSQL)] + questions.joined().map { Statement(namesSQL, [.uuid($0)]) })
    var next = 1
    let answers = questions.map { ids in
      defer { next += ids.count }
      return results[next..<next + ids.count].contains { !$0.rows.isEmpty }
    }
    return NameCheck.Reading(answers: answers, areAllVersion7: results[0].rows.isEmpty)
  }

  /// Uses partial indexes that contain only such rows. SQLite uses an index that the query names. Postgres estimates
  /// that half of the rows match and would scan the table; asked for the first in order, it uses the index.
  private static let unusualSQL = SQL(
    sqlite: """
      SELECT 1 WHERE EXISTS (SELECT 1 FROM users INDEXED BY users_not_version_7
          WHERE substr(id, 7, 1) NOT BETWEEN x'70' AND x'7f')
        OR EXISTS (SELECT 1 FROM organizations INDEXED BY organizations_not_version_7
          WHERE substr(id, 7, 1) NOT BETWEEN x'70' AND x'7f')
        OR EXISTS (SELECT 1 FROM teams INDEXED BY teams_not_version_7
          WHERE substr(id, 7, 1) NOT BETWEEN x'70' AND x'7f')
      """,
    postgres: """
      SELECT 1 WHERE (
          SELECT id FROM users WHERE substr(id, 7, 1) NOT BETWEEN '\\x70' AND '\\x7f'
          ORDER BY id LIMIT 1) IS NOT NULL
        OR (
          SELECT id FROM organizations WHERE substr(id, 7, 1) NOT BETWEEN '\\x70' AND '\\x7f'
          ORDER BY id LIMIT 1) IS NOT NULL
        OR (
          SELECT id FROM teams WHERE substr(id, 7, 1) NOT BETWEEN '\\x70' AND '\\x7f'
          ORDER BY id LIMIT 1) IS NOT NULL
      """)

  private static let namesSQL: SQL = """
    SELECT 1 WHERE EXISTS (SELECT 1 FROM users WHERE id = $1)
      OR EXISTS (SELECT 1 FROM organizations WHERE id = $1)
      OR EXISTS (SELECT 1 FROM teams WHERE id = $1)
    """
}
