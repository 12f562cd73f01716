package import Access
internal import Accounts
package import Basics
package import Database

/// The SQL of the people and roles of rooms, and nothing else. Runs inside the caller's transaction, which has locked
/// the room's head before it writes.
enum RoomPeopleStore {
  /// `room_people.state`.
  private enum State {
    static let left: Int64 = 0
    static let accepted: Int64 = 1
    static let waiting: Int64 = 2
  }

  // MARK: Reading

  /// Returns the statement that reads what changed in the people of rooms after these access versions, and all people
  /// of rooms with version 0.
  static func changes(since versions: [RoomID: Int64]) -> Statement {
    // A JSON object, so that one value names the rooms with their versions.
    let pairs = versions.map { "\"\($0.key)\":\($0.value)" }.joined(separator: ",")
    return Statement(changesSQL, [.text("{\(pairs)}")])
  }

  /// Decodes the rows of `changes`.
  static func changes(_ rows: [Row]) throws -> [RoomID: [RoomPeople.Change]] {
    var changes: [RoomID: [RoomPeople.Change]] = [:]
    for row in rows {
      let user = UserID(try row.uuid(1))
      let state = try row.integer(4)
      changes[try row.room(0), default: []].append(
        RoomPeople.Change(
          user,
          state == State.left
            ? nil
            : RoomPerson(
              userID: user, roleID: try row.optional(2) { RoleID(try row.uuid($0)) },
              joinedAt: try row.time(3), isAccepted: state == State.accepted)))
    }
    return changes
  }

  private static let changesSQL = SQL(
    sqlite: """
      SELECT p.room_id, p.user_id, p.role_id, p.joined_at, p.state
      FROM json_each($1) known JOIN room_people p ON p.room_id = CAST(known.key AS INTEGER)
      WHERE p.version > known.value AND (known.value > 0 OR p.state <> 0)
      """,
    postgres: """
      SELECT p.room_id, p.user_id, p.role_id, p.joined_at, p.state
      FROM json_each_text($1::json) AS known (key, value)
        JOIN room_people p ON p.room_id = known.key::bigint
      WHERE p.version > known.value::bigint AND (known.value <> '0' OR p.state <> 0)
      """)

  /// Returns the statement that reads the roles of rooms. `list` is a list of ids (`SQLValue.rooms`).
  static func roles(of list: SQLValue) -> Statement { Statement(rolesSQL, [list]) }

  /// Decodes the rows of `roles(of:)`.
  static func roles(_ rows: [Row]) throws -> [RoomID: [RoomRole]] {
    var roles: [RoomID: [RoomRole]] = [:]
    for row in rows {
      roles[try row.room(0), default: []].append(
        RoomRole(
          id: try row.id(1), name: try row.text(2),
          permissions: Permissions(rawValue: UInt8(truncatingIfNeeded: try row.integer(3)))))
    }
    return roles
  }

  private static let rolesSQL = SQL(
    sqlite: """
      SELECT room_id, id, name, permissions FROM room_roles
      WHERE room_id IN (SELECT value FROM json_each($1)) ORDER BY room_id, id
      """,
    postgres: """
      SELECT room_id, id, name, permissions FROM room_roles
      WHERE room_id IN (SELECT value::bigint FROM json_array_elements_text($1::json) AS list (value))
      ORDER BY room_id, id
      """)

  /// Returns the ids above `after`, ascending, of rooms in which the user is named and has accepted, or with
  /// `isWaiting` has not answered yet.
  static func roomIDs(
    of user: UserID, isWaiting: Bool, after: RoomID, limit: Int, in transaction: Transaction
  ) async throws -> [RoomID] {
    try await transaction.query(
      """
      SELECT room_id FROM room_people
      WHERE user_id = $1 AND room_id > $2 AND state = $4 AND state <> 0 ORDER BY room_id LIMIT $3
      """,
      [
        .id(user), .room(after), .integer(Int64(limit)),
        .integer(isWaiting ? State.waiting : State.accepted),
      ]
    ).map { try $0.room(0) }
  }

  /// Returns the statement that reads the rooms in which the user is named and has accepted, each with an outline; at
  /// most `limit` + 1.
  static func inbox(of user: UserID, limit: Int) -> Statement {
    Statement(inboxSQL, [.id(user), .integer(Int64(limit) + 1)])
  }

  /// The columns are those of `RoomStore.inboxSQL`.
  private static let inboxSQL: SQL = """
    SELECT p.room_id, r.type, r.owner_user,
      CASE WHEN p.role_id IS NULL THEN r.default_permissions
        ELSE coalesce((SELECT o.permissions FROM room_roles o
          WHERE o.room_id = p.room_id AND o.id = p.role_id), 0) END,
      h.message_ts, r.created_at
    FROM room_people p JOIN rooms r ON r.id = p.room_id JOIN room_heads h ON h.room_id = p.room_id
    WHERE p.user_id = $1 AND p.state = 1 AND r.deleted_at IS NULL LIMIT $2
    """

  // MARK: Writing

  /// Inserts or replaces a person's row. `version` is the access version that the room has from this transaction on.
  /// `invitation` is the id of the invitation that the person has not answered; nil for others.
  static func put(
    _ person: RoomPerson, invitation: UUID? = nil, in room: RoomID, version: Int64,
    _ transaction: Transaction
  ) async throws {
    try await transaction.execute(
      """
      INSERT INTO room_people (room_id, user_id, role_id, joined_at, state, version, invitation_id)
      VALUES ($1, $2, $3, $4, $5, $6, $7)
      ON CONFLICT (room_id, user_id) DO UPDATE SET role_id = excluded.role_id,
        joined_at = excluded.joined_at, state = excluded.state, version = excluded.version,
        invitation_id = excluded.invitation_id
      """,
      [
        .room(room), .id(person.userID), .optional(person.roleID) { .id($0) },
        .time(person.joinedAt), .integer(person.isAccepted ? State.accepted : State.waiting),
        .integer(version), .optional(invitation) { .uuid($0) },
      ])
  }

  /// The invitation that waits for the person's answer; nil if none does.
  static func invitation(
    of user: UserID, to room: RoomID, in transaction: Transaction
  ) async throws -> UUID? {
    try await transaction.first(
      "SELECT invitation_id FROM room_people WHERE room_id = $1 AND user_id = $2 AND state = 2",
      [.room(room), .id(user)]
    ).flatMap { try $0.optional(0, $0.uuid) }
  }

  /// The room that an invitation of this user is for.
  static func room(
    ofInvitation id: UUID, of user: UserID, in transaction: Transaction
  ) async throws -> RoomID? {
    try await transaction.first(
      "SELECT room_id FROM room_people WHERE invitation_id = $1 AND user_id = $2 AND state = 2",
      [.uuid(id), .id(user)])?.room(0)
  }

  // MARK: Acts

  /// Notes that the user is in the room by an act of their own.
  static func noteAct(
    of user: UserID, in room: RoomID, _ transaction: Transaction
  ) async throws {
    try await transaction.execute(
      """
      INSERT INTO room_acts (user_id, room_id) VALUES ($1, $2) ON CONFLICT DO NOTHING
      """, [.id(user), .room(room)])
  }

  /// Forgets that the user was in the room by an act of their own, because they left it or lost it.
  static func forgetAct(
    of user: UserID, in room: RoomID, _ transaction: Transaction
  ) async throws {
    try await transaction.execute(
      "DELETE FROM room_acts WHERE user_id = $1 AND room_id = $2", [.id(user), .room(room)])
  }

  /// Returns those of the people who are in a room by an act of their own in which the user is so, too.
  static func haveActInCommon(
    among people: [UserID], with user: UserID, _ transaction: Transaction
  ) async throws -> Set<UserID> {
    Set(
      try await transaction.query(actsInCommonSQL, [.id(user), .ids(people)]).map { try $0.id(0) })
  }

  /// The rooms of each of the people are looked up among those of the user, because people have fewer rooms than the
  /// user and the people have together. `CROSS JOIN` keeps SQLite to that order.
  private static let actsInCommonSQL = SQL(
    sqlite: """
      WITH RECURSIVE list (i) AS (
        SELECT 0 UNION ALL SELECT i + 1 FROM list WHERE (i + 1) * 16 < length($2)),
        other (id) AS (SELECT substr($2, i * 16 + 1, 16) FROM list)
      SELECT id FROM other WHERE EXISTS (
        SELECT 1 FROM room_acts b CROSS JOIN room_acts a CROSS JOIN rooms r
        WHERE b.user_id = other.id AND a.user_id = $1 AND a.room_id = b.room_id
          AND r.id = b.room_id AND r.deleted_at IS NULL)
      """,
    postgres: """
      WITH other (id) AS (
        SELECT substring($2::bytea FROM i * 16 + 1 FOR 16)
        FROM generate_series(0, length($2::bytea) / 16 - 1) AS i)
      SELECT id FROM other WHERE EXISTS (
        SELECT 1 FROM room_acts b JOIN room_acts a ON a.room_id = b.room_id AND a.user_id = $1
          JOIN rooms r ON r.id = b.room_id
        WHERE b.user_id = other.id AND r.deleted_at IS NULL)
      """)

  /// Marks a person as gone. The row remains, so that nodes that know an older version of the room notice.
  static func remove(
    _ user: UserID, from room: RoomID, version: Int64, _ transaction: Transaction
  ) async throws {
    try await transaction.execute(
      """
      UPDATE room_people SET state = 0, role_id = NULL, invitation_id = NULL, version = $3
      WHERE room_id = $1 AND user_id = $2
      """, [.room(room), .id(user), .integer(version)])
  }

  static func removeAll(from room: RoomID, _ transaction: Transaction) async throws {
    _ = try await transaction.pipeline([
      Statement("DELETE FROM room_people WHERE room_id = $1", [.room(room)]),
      Statement("DELETE FROM room_roles WHERE room_id = $1", [.room(room)]),
    ])
  }

  static func put(_ role: RoomRole, in room: RoomID, _ transaction: Transaction) async throws {
    try await transaction.execute(
      """
      INSERT INTO room_roles (room_id, id, name, permissions) VALUES ($1, $2, $3, $4)
      ON CONFLICT (room_id, id) DO UPDATE SET name = excluded.name,
        permissions = excluded.permissions
      """,
      [
        .room(room), .id(role.id), .text(role.name),
        .integer(Int64(role.permissions.rawValue)),
      ])
  }

  static func removeRole(
    _ role: RoleID, from room: RoomID, _ transaction: Transaction
  ) async throws {
    try await transaction.execute(
      "DELETE FROM room_roles WHERE room_id = $1 AND id = $2", [.room(room), .id(role)])
  }
}

/// The rooms by which accounts know each other, for `Circle`.
package struct RoomActs: SharedRooms {
  private let database: any SQLDatabase
  private let directory: RoomDirectory

  package init(database: any SQLDatabase, directory: RoomDirectory) {
    self.database = database
    self.directory = directory
  }

  /// The most rooms of a deleted user that are compared with those of the caller.
  private static let maximumRooms: Int64 = 1000
  private static let roomsPerRead = 50

  package func haveBeen(
    _ people: [UserID], inRoomsReadableBy caller: Caller
  ) async throws -> Set<UserID> {
    var found: Set<UserID> = []
    for user in people {
      let isFound = try await database.read { transaction in
        // Everyone who has written somewhere has a mark there, if only an ended one.
        let ids = try await transaction.query(
          "SELECT room_id FROM room_marks WHERE user_id = $1 ORDER BY room_id DESC LIMIT $2",
          [.id(user), .integer(Self.maximumRooms)]
        ).map { try $0.room(0) }
        for start in stride(from: 0, to: ids.count, by: Self.roomsPerRead) {
          let part = Array(ids[start..<min(start + Self.roomsPerRead, ids.count)])
          let rooms = try await directory.read(part, in: transaction)
          let isReadable = rooms.values.contains {
            RuleEngine.standing(of: caller, in: $0).permissions.contains(.read)
          }
          if isReadable { return true }
        }
        return false
      }
      if isFound { found.insert(user) }
    }
    return found
  }

  package func peopleInCommonRooms(
    with user: UserID, in transaction: Transaction
  ) async throws -> Set<UserID> {
    Set(
      try await transaction.query(
        """
        SELECT DISTINCT b.user_id FROM room_acts a JOIN room_acts b ON b.room_id = a.room_id
          JOIN rooms r ON r.id = a.room_id
        WHERE a.user_id = $1 AND r.deleted_at IS NULL
        """, [.id(user)]
      ).map { try $0.id(0) })
  }

  package func haveRoomInCommon(
    among people: [UserID], with user: UserID, in transaction: Transaction
  ) async throws -> Set<UserID> {
    try await RoomPeopleStore.haveActInCommon(among: people, with: user, transaction)
  }
}
