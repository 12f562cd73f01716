internal import Access
internal import Accounts
internal import Basics
internal import Database

/// The SQL of rooms and rules, and nothing else. Runs inside the caller's transaction.
enum RoomStore {
  /// Reads the room with its rules; nil if it does not exist (any more).
  static func room(_ id: RoomID, in transaction: Transaction) async throws -> Room? {
    try await rooms([id], in: transaction)[id]
  }

  /// Reads those of the rooms that exist, with their rules. A room whose type this release does not know counts as
  /// not existing.
  static func rooms(
    _ ids: [RoomID], in transaction: Transaction
  ) async throws -> [RoomID: Room] {
    let list = SQLValue.rooms(ids)
    let results = try await transaction.pipeline([
      Statement(roomsSQL, [list]), Statement(rulesSQL, [list]),
    ])
    guard results.count == 2 else { throw DatabaseError(kind: .other, message: "no results") }
    var rules: [RoomID: [RoomRule]] = [:]
    for row in results[1].rows { rules[try row.room(0), default: []].append(try rule(row)) }
    var rooms: [RoomID: Room] = [:]
    for row in results[0].rows {
      let id = try row.room(0)
      rooms[id] = try room(id, row, rules.removeValue(forKey: id) ?? [])
    }
    return rooms
  }

  /// The same as `room`, and nobody else changes the room until this transaction ends. Takes the lock first: it is on
  /// the head's row, for which messages wait too.
  static func roomForUpdate(_ id: RoomID, in transaction: Transaction) async throws -> Room? {
    try transaction.willLock(.roomHeads)
    _ = try await transaction.query(lockSQL, [.room(id)])
    return try await room(id, in: transaction)
  }

  private static let lockSQL = SQL(
    sqlite: "SELECT room_id FROM room_heads WHERE room_id = $1",
    postgres: "SELECT room_id FROM room_heads WHERE room_id = $1 FOR UPDATE")

  // `$1` is a list of ids (`SQLValue.rooms`).

  private static let roomsSQL = SQL(
    sqlite: """
      SELECT r.id, r.type, r.name, r.level_admin, r.owner_user, r.owner_entity, r.by_invitation,
        r.created_at, h.access_version
      FROM rooms r JOIN room_heads h ON h.room_id = r.id
      WHERE r.id IN (SELECT value FROM json_each($1)) AND r.deleted_at IS NULL
      """,
    postgres: """
      SELECT r.id, r.type, r.name, r.level_admin, r.owner_user, r.owner_entity, r.by_invitation,
        r.created_at, h.access_version
      FROM rooms r JOIN room_heads h ON h.room_id = r.id
      WHERE r.id IN (SELECT value::bigint FROM json_array_elements_text($1::json) AS list (value))
        AND r.deleted_at IS NULL
      """)

  private static let rulesSQL = SQL(
    sqlite: """
      SELECT room_id, subject, permissions, level, accepted FROM room_rules
      WHERE room_id IN (SELECT value FROM json_each($1)) ORDER BY room_id, subject
      """,
    postgres: """
      SELECT room_id, subject, permissions, level, accepted FROM room_rules
      WHERE room_id IN (SELECT value::bigint FROM json_array_elements_text($1::json) AS list (value))
      ORDER BY room_id, subject
      """)

  private static func room(_ id: RoomID, _ row: Row, _ rules: [RoomRule]) throws -> Room? {
    guard let type = RoomType(code: try row.integer(1)) else { return nil }
    return Room(
      id: id, name: try row.text(2), type: type, levelAdmin: try row.integer(3),
      ownerUser: try row.id(4), ownerEntity: try row.optional(5, row.uuid),
      isByInvitation: try row.bool(6), createdAt: try row.time(7), rules: rules,
      accessVersion: try row.integer(8))
  }

  private static func rule(_ row: Row) throws -> RoomRule {
    RoomRule(
      subject: try row.uuid(1),
      permissions: Permissions(rawValue: UInt8(truncatingIfNeeded: try row.integer(2))),
      level: try row.integer(3), isAccepted: try row.bool(4))
  }

  // MARK: Writing

  static func insert(
    name: String, type: RoomType, levelAdmin: Int64, ownerUser: UserID, ownerEntity: UUID?,
    isByInvitation: Bool, at time: Timestamp, in transaction: Transaction
  ) async throws -> RoomID {
    let row = try await transaction.first(
      """
      INSERT INTO rooms (type, name, level_admin, owner_user, owner_entity, by_invitation, created_at)
      VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id
      """,
      [
        .integer(type.code), .text(name), .integer(levelAdmin), .id(ownerUser),
        .optional(ownerEntity) { .uuid($0) }, .bool(isByInvitation), .time(time),
      ])
    guard let row else { throw DatabaseError(kind: .other, message: "INSERT gave no id") }
    let id = try row.room(0)
    try await transaction.execute(
      """
      INSERT INTO room_heads (room_id, last_seq, last_ts, access_version) VALUES ($1, 0, 0, 1)
      """, [.room(id)])
    return id
  }

  static func update(
    _ id: RoomID, name: String, levelAdmin: Int64, isByInvitation: Bool,
    in transaction: Transaction
  ) async throws {
    try await transaction.execute(
      "UPDATE rooms SET name = $2, level_admin = $3, by_invitation = $4 WHERE id = $1",
      [.room(id), .text(name), .integer(levelAdmin), .bool(isByInvitation)])
  }

  static func markDeleted(
    _ id: RoomID, at time: Timestamp, in transaction: Transaction
  ) async throws {
    try await transaction.execute(
      "UPDATE rooms SET deleted_at = $2 WHERE id = $1", [.room(id), .time(time)])
    try await transaction.execute("DELETE FROM room_rules WHERE room_id = $1", [.room(id)])
  }

  static func put(_ rule: RoomRule, in room: RoomID, _ transaction: Transaction) async throws {
    try await transaction.execute(
      """
      INSERT INTO room_rules (room_id, subject, permissions, level, accepted)
      VALUES ($1, $2, $3, $4, $5)
      ON CONFLICT (room_id, subject) DO UPDATE SET permissions = excluded.permissions,
        level = excluded.level, accepted = excluded.accepted
      """,
      [
        .room(room), .uuid(rule.subject), .integer(Int64(rule.permissions.rawValue)),
        .integer(rule.level), .bool(rule.isAccepted),
      ])
  }

  static func removeRule(
    _ subject: UUID, from room: RoomID, _ transaction: Transaction
  ) async throws {
    try await transaction.execute(
      "DELETE FROM room_rules WHERE room_id = $1 AND subject = $2", [.room(room), .uuid(subject)])
  }

  /// Raises the room's access version. No message that was checked under an older version enters after this.
  static func raiseAccessVersion(
    _ id: RoomID, in transaction: Transaction
  ) async throws -> Int64 {
    let row = try await transaction.first(
      """
      UPDATE room_heads SET access_version = access_version + 1 WHERE room_id = $1
      RETURNING access_version
      """, [.room(id)])
    guard let row else { throw DatabaseError(kind: .other, message: "room \(id) has no head") }
    return try row.integer(0)
  }

  // MARK: Finding

  /// Ids above `after`, ascending, of rooms with an accepted rule for the subject, or made by the user.
  static func roomIDs(
    subject: UUID, after: RoomID, limit: Int, in transaction: Transaction
  ) async throws -> [RoomID] {
    try await transaction.query(
      """
      SELECT room_id FROM room_rules WHERE subject = $1 AND room_id > $2 AND accepted = 1
      ORDER BY room_id LIMIT $3
      """, [.uuid(subject), .room(after), .integer(Int64(limit))]
    ).map { try $0.room(0) }
  }

  /// Ids above `after`, ascending, of rooms with a rule for the subject that waits for its answer.
  static func waitingRoomIDs(
    subject: UUID, after: RoomID, limit: Int, in transaction: Transaction
  ) async throws -> [RoomID] {
    try await transaction.query(
      """
      SELECT room_id FROM room_rules WHERE subject = $1 AND room_id > $2 AND accepted = 0
      ORDER BY room_id LIMIT $3
      """, [.uuid(subject), .room(after), .integer(Int64(limit))]
    ).map { try $0.room(0) }
  }

  /// The accepted rules that include this caller, each with an outline of its room. One statement per subject. Nil if
  /// a subject has more than `limit` of them.
  static func inbox(
    of caller: Caller, limit: Int, in transaction: Transaction
  ) async throws -> [InboxLine]? {
    let subjects = Set(caller.subjects)
    let results = try await transaction.pipeline(
      subjects.map { Statement(inboxSQL, [.uuid($0), .integer(Int64(limit) + 1)]) })
    var lines: [InboxLine] = []
    for (subject, result) in zip(subjects, results) {
      guard result.rows.count <= limit else { return nil }
      for row in result.rows {
        // A room whose type this release does not know counts as not existing.
        guard let type = RoomType(code: try row.integer(1)) else { continue }
        lines.append(
          InboxLine(
            room: try row.room(0), type: type, ownerUser: try row.id(2),
            permissions: Permissions(rawValue: UInt8(truncatingIfNeeded: try row.integer(3))),
            isOwn: subject == caller.userID.uuid,
            activeAt: max(try row.time(4), try row.time(5))))
      }
    }
    return lines
  }

  private static let inboxSQL: SQL = """
    SELECT rule.room_id, r.type, r.owner_user, rule.permissions, h.last_ts, r.created_at
    FROM room_rules rule JOIN rooms r ON r.id = rule.room_id
      JOIN room_heads h ON h.room_id = rule.room_id
    WHERE rule.subject = $1 AND rule.accepted = 1 AND r.deleted_at IS NULL LIMIT $2
    """

  /// The head of a room's log.
  struct Head: Sendable {
    /// 0 for an empty log.
    let lastSeq: Int64
    let lastTime: Timestamp
  }

  static func head(_ id: RoomID, in transaction: Transaction) async throws -> Head? {
    try await transaction.first(
      "SELECT last_seq, last_ts FROM room_heads WHERE room_id = $1", [.room(id)]
    ).map { Head(lastSeq: try $0.integer(0), lastTime: try $0.time(1)) }
  }

  /// Reads the last seqs of rooms, 0 for an empty log. Rooms that never existed are left out.
  static func lastSeqs(
    _ ids: [RoomID], in transaction: Transaction
  ) async throws -> [RoomID: Int64] {
    var seqs: [RoomID: Int64] = [:]
    for row in try await transaction.query(lastSeqsSQL, [.rooms(ids)]) {
      seqs[try row.room(0)] = try row.integer(1)
    }
    return seqs
  }

  private static let lastSeqsSQL = SQL(
    sqlite: """
      SELECT room_id, last_seq FROM room_heads WHERE room_id IN (SELECT value FROM json_each($1))
      """,
    postgres: """
      SELECT room_id, last_seq FROM room_heads
      WHERE room_id IN (SELECT value::bigint FROM json_array_elements_text($1::json) AS list (value))
      """)

  /// The number of existing rooms that the user has made, counted up to `limit`.
  static func roomCount(
    madeBy user: UserID, limit: Int64, in transaction: Transaction
  ) async throws -> Int64 {
    try await transaction.first(
      """
      SELECT count(*) FROM (
        SELECT 1 FROM rooms WHERE owner_user = $1 AND deleted_at IS NULL LIMIT $2) AS made
      """, [.id(user), .integer(limit)])?.integer(0) ?? 0
  }
}
