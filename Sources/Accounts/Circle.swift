package import Access
package import Basics
package import Database

/// The people whom someone knows: those who share an organization, a team, or a room. Only they can be found by name,
/// watched, and added somewhere without being asked.
package struct Circle: Sendable {
  private let includesEveryone: Bool
  private let rooms: any SharedRooms

  /// With `includesEveryone` all accounts know each other, as on a server of one organization.
  package init(includesEveryone: Bool, rooms: any SharedRooms) {
    self.includesEveryone = includesEveryone
    self.rooms = rooms
  }

  /// Whether somebody is in the circle of a user. Everyone is in their own.
  package func contains(
    _ other: UserID, of user: UserID, in transaction: Transaction
  ) async throws -> Bool {
    try await members(among: [other], of: user, in: transaction).contains(other)
  }

  /// Returns those of the people who are in the circle of a user.
  package func members(
    among people: [UserID], of user: UserID, in transaction: Transaction
  ) async throws -> Set<UserID> {
    if people.isEmpty { return [] }
    var known: Set<UserID> = []
    // People of another system have no accounts, so they do not belong to everyone.
    if includesEveryone, try await People.exists(user, in: transaction) {
      known = Set(try await People.names(of: people, in: transaction).keys)
      known.subtract(try await People.erased(among: people, in: transaction))
    }
    for row in try await transaction.query(Self.sharedSQL, [.id(user), .ids(people)]) {
      known.insert(try row.id(0))
    }
    if people.contains(user) { known.insert(user) }
    let others = Set(people).subtracting(known)
    if others.isEmpty { return known }
    return known.union(
      try await rooms.haveRoomInCommon(among: Array(others), with: user, in: transaction))
  }

  /// Returns those of the people who have been or written in a room that the caller may read now.
  func haveBeen(
    _ people: [UserID], readableBy caller: Caller
  ) async throws -> Set<UserID> {
    try await rooms.haveBeen(people, inRoomsReadableBy: caller)
  }

  /// Returns everyone in the circle of a user. Nil means that all accounts are, and perhaps people of other systems.
  func everyone(of user: UserID, in transaction: Transaction) async throws -> Set<UserID>? {
    if includesEveryone, try await People.exists(user, in: transaction) { return nil }
    let members: [UserID] = try await transaction.query(Self.everyoneSQL, [.id(user)]).map {
      try $0.id(0)
    }
    var known = Set(members)
    known.formUnion(try await rooms.peopleInCommonRooms(with: user, in: transaction))
    known.insert(user)
    return known
  }

  private static let everyoneSQL: SQL = """
    SELECT b.user_id FROM memberships a JOIN memberships b ON b.organization_id = a.organization_id
    WHERE a.user_id = $1
    UNION
    SELECT b.user_id FROM team_members a JOIN team_members b ON b.team_id = a.team_id
    WHERE a.user_id = $1
    """

  private static let sharedSQL = SQL(
    sqlite: """
      WITH RECURSIVE list (i) AS (
        SELECT 0 UNION ALL SELECT i + 1 FROM list WHERE (i + 1) * 16 < length($2)),
        other (id) AS (SELECT substr($2, i * 16 + 1, 16) FROM list)
      SELECT id FROM other WHERE EXISTS (
          SELECT 1 FROM memberships a JOIN memberships b ON b.organization_id = a.organization_id
          WHERE a.user_id = $1 AND b.user_id = other.id)
        OR EXISTS (
          SELECT 1 FROM team_members a JOIN team_members b ON b.team_id = a.team_id
          WHERE a.user_id = $1 AND b.user_id = other.id)
      """,
    postgres: """
      WITH other (id) AS (
        SELECT substring($2::bytea FROM i * 16 + 1 FOR 16)
        FROM generate_series(0, length($2::bytea) / 16 - 1) AS i)
      SELECT id FROM other WHERE EXISTS (
          SELECT 1 FROM memberships a JOIN memberships b ON b.organization_id = a.organization_id
          WHERE a.user_id = $1 AND b.user_id = other.id)
        OR EXISTS (
          SELECT 1 FROM team_members a JOIN team_members b ON b.team_id = a.team_id
          WHERE a.user_id = $1 AND b.user_id = other.id)
      """)
}

/// Whether people know each other from a room. A port, implemented by `Chat`.
package protocol SharedRooms: Sendable {
  /// Returns those of the people who share a room with a user that both joined by their own act or wrote in.
  func haveRoomInCommon(
    among people: [UserID], with user: UserID, in transaction: Transaction
  ) async throws -> Set<UserID>

  /// Returns those of the people who have been or written in a room that the caller may read now.
  func haveBeen(
    _ people: [UserID], inRoomsReadableBy caller: Caller
  ) async throws -> Set<UserID>

  /// Returns all people who share such a room with a user.
  func peopleInCommonRooms(
    with user: UserID, in transaction: Transaction
  ) async throws -> Set<UserID>
}
