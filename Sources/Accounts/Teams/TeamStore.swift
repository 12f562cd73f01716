internal import Access
internal import Basics
internal import Database
internal import Words

/// The SQL of teams, and nothing else. Runs inside the caller's transaction.
enum TeamStore {
  // MARK: Teams

  static func insert(
    _ team: Team, by creator: UserID, in transaction: Transaction
  ) async throws {
    try await transaction.execute(
      """
      INSERT INTO teams (id, organization_id, created_at, name, name_key, icon, meta_tags,
        is_active, created_by)
      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
      """,
      [
        .id(team.id), .optional(team.organization) { .id($0) }, .time(team.createdAt),
        .text(team.name), .text(TextFolding.fold(team.name)), .optional(team.icon) { .text($0) },
        .text(tags(team.metaTags)), .bool(team.isActive), .id(creator),
      ])
  }

  static func setChannel(
    _ room: RoomID, of team: TeamID, in transaction: Transaction
  ) async throws {
    try await transaction.execute(
      "UPDATE teams SET room_id = $2 WHERE id = $1", [.id(team), .room(room)])
  }

  /// Nil if the team does not exist (any more).
  static func team(_ id: TeamID, in transaction: Transaction) async throws -> Team? {
    try await transaction.first(teamSQL, [.id(id)]).map(team)
  }

  /// The same as `team`, and locks the team until the transaction ends. Everything that changes a team, and everything
  /// that makes a dialog between its members, locks it first.
  static func teamForUpdate(_ id: TeamID, in transaction: Transaction) async throws -> Team? {
    try transaction.willLock(.teams)
    return try await transaction.first(lockSQL, [.id(id)]).map(team)
  }

  private static let teamSQL: SQL = """
    SELECT id, name, icon, is_active, meta_tags, organization_id, room_id, created_at, member_count
    FROM teams WHERE id = $1 AND deleted_at IS NULL
    """

  private static let lockSQL = SQL(
    sqlite: """
      SELECT id, name, icon, is_active, meta_tags, organization_id, room_id, created_at,
        member_count
      FROM teams WHERE id = $1 AND deleted_at IS NULL
      """,
    postgres: """
      SELECT id, name, icon, is_active, meta_tags, organization_id, room_id, created_at,
        member_count
      FROM teams WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE
      """)

  private static func team(_ row: Row) throws -> Team {
    Team(
      id: try row.id(0), name: try row.text(1), icon: try row.optional(2, row.text),
      isActive: try row.bool(3), metaTags: tags(try row.text(4)),
      organization: try row.optional(5) { OrganizationID(try row.uuid($0)) },
      channel: try row.optional(6, row.room), createdAt: try row.time(7),
      memberCount: try row.integer(8))
  }

  private static func tags(_ tags: [String]) -> String {
    var writer = JSONWriter()
    writer.array(of: tags) { $0.value($1) }
    return String(decoding: writer.bytes, as: UTF8.self)
  }

  /// Written by this server. A text that cannot be parsed shows no tags.
  private static func tags(_ text: String) -> [String] {
    guard case .array(let values)? = try? JSONParser.parse(Array(text.utf8)) else { return [] }
    return values.compactMap(\.string)
  }

  /// Writes what can change: name, icon, tags, and whether the team is active.
  static func update(_ team: Team, in transaction: Transaction) async throws {
    try await transaction.execute(
      """
      UPDATE teams SET name = $2, name_key = $3, icon = $4, meta_tags = $5, is_active = $6
      WHERE id = $1
      """,
      [
        .id(team.id), .text(team.name), .text(TextFolding.fold(team.name)),
        .optional(team.icon) { .text($0) }, .text(tags(team.metaTags)), .bool(team.isActive),
      ])
  }

  /// The row remains, so that the id stays known as one of this server (`NameCheck`). The members go.
  static func markDeleted(
    _ id: TeamID, at time: Timestamp, in transaction: Transaction
  ) async throws {
    _ = try await transaction.pipeline([
      Statement(
        "UPDATE teams SET deleted_at = $2, member_count = 0 WHERE id = $1", [.id(id), .time(time)]),
      Statement("DELETE FROM team_members WHERE team_id = $1", [.id(id)]),
      Statement("DELETE FROM team_invitations WHERE team_id = $1", [.id(id)]),
    ])
  }

  /// The number of existing teams that the user has made, counted up to `limit`.
  static func teamCount(
    madeBy user: UserID, limit: Int64, in transaction: Transaction
  ) async throws -> Int64 {
    try await transaction.first(
      """
      SELECT count(*) FROM (
        SELECT 1 FROM teams WHERE created_by = $1 AND deleted_at IS NULL LIMIT $2) AS made
      """, [.id(user), .integer(limit)])?.integer(0) ?? 0
  }

  /// Which teams a list shows.
  struct Selection: Sendable {
    let user: UserID
    /// The teams of this organization only.
    let organization: OrganizationID?
    /// Whether the organization's teams are shown that the user is not in, too.
    let showsAll: Bool
    /// A part of the name.
    let query: String?
    let tag: String?
    /// The team after which to continue.
    let after: (createdAt: Timestamp, id: TeamID)?
  }

  /// Teams in the order in which they were made, at most `limit`.
  static func teams(
    _ selection: Selection, limit: Int, in transaction: Transaction
  ) async throws -> [Team] {
    try await transaction.query(
      listSQL,
      [
        .id(selection.user), .optional(selection.organization) { .id($0) },
        .bool(selection.showsAll),
        .optional(selection.query) { .text(TextFolding.fold($0)) },
        .optional(selection.tag) { .text($0) },
        .time(selection.after?.createdAt ?? Timestamp(milliseconds: .min)),
        .id(selection.after?.id ?? TeamID(.zero)), .integer(Int64(limit)),
      ]
    ).map(team)
  }

  private static let listSQL = SQL(
    sqlite: """
      SELECT t.id, t.name, t.icon, t.is_active, t.meta_tags, t.organization_id, t.room_id,
        t.created_at, t.member_count
      FROM teams t
      WHERE t.id IN (
          SELECT team_id FROM team_members WHERE user_id = $1
          UNION SELECT id FROM teams WHERE $3 = 1 AND organization_id = $2)
        AND t.deleted_at IS NULL AND ($2 IS NULL OR t.organization_id = $2)
        AND ($4 IS NULL OR instr(t.name_key, $4) > 0)
        AND ($5 IS NULL OR EXISTS (SELECT 1 FROM json_each(t.meta_tags) tag WHERE tag.value = $5))
        AND (t.created_at > $6 OR (t.created_at = $6 AND t.id > $7))
      ORDER BY t.created_at, t.id LIMIT $8
      """,
    postgres: """
      SELECT t.id, t.name, t.icon, t.is_active, t.meta_tags, t.organization_id, t.room_id,
        t.created_at, t.member_count
      FROM teams t
      WHERE t.id IN (
          SELECT team_id FROM team_members WHERE user_id = $1
          UNION SELECT id FROM teams WHERE $3::bigint = 1 AND organization_id = $2::bytea)
        AND t.deleted_at IS NULL AND ($2::bytea IS NULL OR t.organization_id = $2::bytea)
        AND ($4::text IS NULL OR strpos(t.name_key, $4::text) > 0)
        AND ($5::text IS NULL OR t.meta_tags::jsonb @> to_jsonb($5::text))
        AND (t.created_at > $6::bigint OR (t.created_at = $6::bigint AND t.id > $7::bytea))
      ORDER BY t.created_at, t.id LIMIT $8
      """)

  // MARK: Members

  /// The role of a user in the team; nil for somebody who is not in it.
  static func role(
    of user: UserID, in team: TeamID, _ transaction: Transaction
  ) async throws -> TeamRole? {
    // A role that only a newer release knows counts as the lowest: nothing is allowed by default.
    try await transaction.first(
      "SELECT role FROM team_members WHERE team_id = $1 AND user_id = $2", [.id(team), .id(user)]
    ).map { TeamRole(rawValue: try $0.text(0)) ?? .user }
  }

  static func add(
    _ user: UserID, to team: TeamID, as role: TeamRole, at time: Timestamp,
    in transaction: Transaction
  ) async throws {
    try await AffiliationStore.setRole(role, of: user, in: team, at: time, transaction)
    try await transaction.execute(
      "UPDATE teams SET member_count = member_count + 1 WHERE id = $1", [.id(team)])
  }

  static func remove(
    _ user: UserID, from team: TeamID, in transaction: Transaction
  ) async throws {
    guard try await AffiliationStore.remove(user, from: team, transaction) else { return }
    try await transaction.execute(
      "UPDATE teams SET member_count = member_count - 1 WHERE id = $1", [.id(team)])
  }

  /// Members after `place`, in the order in which they came, at most `limit`. With `onlyManagers` admins and the
  /// super_admin.
  static func members(
    of team: TeamID, onlyManagers: Bool = false,
    behind place: (joinedAt: Timestamp, user: UserID)? = nil, limit: Int,
    in transaction: Transaction
  ) async throws -> [TeamMember] {
    try await transaction.query(
      """
      SELECT m.user_id, u.name, u.email, m.role, m.created_at
      FROM team_members m JOIN users u ON u.id = m.user_id
      WHERE m.team_id = $1 AND (m.created_at > $2 OR (m.created_at = $2 AND m.user_id > $3))
        AND (CAST($5 AS BIGINT) = 0 OR m.role IN ('admin', 'super_admin'))
      ORDER BY m.created_at, m.user_id LIMIT $4
      """,
      [
        .id(team), .time(place?.joinedAt ?? Timestamp(milliseconds: .min)),
        .id(place?.user ?? UserID(.zero)), .integer(Int64(limit)), .bool(onlyManagers),
      ]
    ).map(member)
  }

  static func member(
    _ user: UserID, of team: TeamID, in transaction: Transaction
  ) async throws -> TeamMember? {
    try await transaction.first(
      """
      SELECT m.user_id, u.name, u.email, m.role, m.created_at
      FROM team_members m JOIN users u ON u.id = m.user_id
      WHERE m.team_id = $1 AND m.user_id = $2
      """, [.id(team), .id(user)]
    ).map(member)
  }

  private static func member(_ row: Row) throws -> TeamMember {
    TeamMember(
      userID: try row.id(0), name: try row.text(1), email: try row.text(2),
      role: TeamRole(rawValue: try row.text(3)) ?? .user, joinedAt: try row.time(4))
  }

  static func superAdmin(
    of team: TeamID, in transaction: Transaction
  ) async throws -> UserID? {
    try await transaction.first(
      "SELECT user_id FROM team_members WHERE team_id = $1 AND role = 'super_admin'", [.id(team)]
    ).map { try $0.id(0) }
  }

  /// The teams that a user is in, by ascending id.
  static func teams(of user: UserID, in transaction: Transaction) async throws -> [TeamID] {
    try await transaction.query(
      "SELECT team_id FROM team_members WHERE user_id = $1 ORDER BY team_id", [.id(user)]
    ).map { try $0.id(0) }
  }

  /// The ids of all members.
  static func memberIDs(
    of team: TeamID, in transaction: Transaction
  ) async throws -> [UserID] {
    try await transaction.query("SELECT user_id FROM team_members WHERE team_id = $1", [.id(team)])
      .map { try $0.id(0) }
  }

  // MARK: Organizations

  /// The role of a user in an organization; nil for somebody who is not in it.
  static func role(
    of user: UserID, in organization: OrganizationID, _ transaction: Transaction
  ) async throws -> OrganizationRole? {
    try await transaction.first(
      "SELECT role FROM memberships WHERE organization_id = $1 AND user_id = $2",
      [.id(organization), .id(user)]
    ).map { OrganizationRole(rawValue: try $0.text(0)) ?? .statusReporter }
  }

  // MARK: Invitations

  /// Does nothing if the user has been invited already.
  static func invite(
    _ user: UserID, to team: TeamID, id: UUID, by: UserID, at time: Timestamp,
    in transaction: Transaction
  ) async throws {
    try await transaction.execute(
      """
      INSERT INTO team_invitations (id, team_id, user_id, invited_by, created_at)
      VALUES ($1, $2, $3, $4, $5) ON CONFLICT (user_id, team_id) DO NOTHING
      """, [.uuid(id), .id(team), .id(user), .id(by), .time(time)])
  }

  static func invitations(
    of user: UserID, behind place: (createdAt: Timestamp, id: UUID)?, limit: Int,
    in transaction: Transaction
  ) async throws -> [TeamInvitation] {
    try await transaction.query(
      """
      SELECT i.id, i.team_id, t.name, i.invited_by, i.created_at
      FROM team_invitations i JOIN teams t ON t.id = i.team_id
      WHERE i.user_id = $1 AND t.deleted_at IS NULL
        AND (i.created_at > $2 OR (i.created_at = $2 AND i.id > $3))
      ORDER BY i.created_at, i.id LIMIT $4
      """,
      [
        .id(user), .time(place?.createdAt ?? Timestamp(milliseconds: .min)),
        .uuid(place?.id ?? .zero), .integer(Int64(limit)),
      ]
    ).map(invitation)
  }

  static func invitation(
    _ id: UUID, of user: UserID, in transaction: Transaction
  ) async throws -> TeamInvitation? {
    try await transaction.first(
      """
      SELECT i.id, i.team_id, t.name, i.invited_by, i.created_at
      FROM team_invitations i JOIN teams t ON t.id = i.team_id
      WHERE i.id = $1 AND i.user_id = $2 AND t.deleted_at IS NULL
      """, [.uuid(id), .id(user)]
    ).map(invitation)
  }

  private static func invitation(_ row: Row) throws -> TeamInvitation {
    TeamInvitation(
      id: try row.uuid(0), team: try row.id(1), teamName: try row.text(2),
      invitedBy: try row.id(3), createdAt: try row.time(4))
  }

  static func removeInvitation(
    of user: UserID, to team: TeamID, in transaction: Transaction
  ) async throws {
    try await transaction.execute(
      "DELETE FROM team_invitations WHERE user_id = $1 AND team_id = $2", [.id(user), .id(team)])
  }
}
