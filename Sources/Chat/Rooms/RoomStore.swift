internal import Access
internal import Accounts
internal import Basics
internal import Database

/// The SQL of rooms and rules, and nothing else. Runs inside the caller's transaction.
enum RoomStore {
  /// Reads those of the rooms that exist, with their rules, roles and people. A room whose kind this release does not
  /// know counts as not existing.
  ///
  /// `known` are rooms that this node has read before. Only those of their people who have changed since are read.
  static func rooms(
    _ ids: [RoomID], known: [RoomID: Room] = [:], in transaction: Transaction
  ) async throws -> [RoomID: Room] {
    let list = SQLValue.rooms(ids)
    var versions: [RoomID: Int64] = [:]
    for id in ids { versions[id] = known[id]?.accessVersion ?? 0 }
    let results = try await transaction.pipeline([
      Statement(roomsSQL, [list]), Statement(rulesSQL, [list]),
      RoomPeopleStore.roles(of: list), RoomPeopleStore.changes(since: versions),
    ])
    guard results.count == 4 else { throw DatabaseError(kind: .other, message: "no results") }
    var rules: [RoomID: [RoomRule]] = [:]
    for row in results[1].rows { rules[try row.room(0), default: []].append(try rule(row)) }
    let roles = try RoomPeopleStore.roles(results[2].rows)
    let people = try RoomPeopleStore.changes(results[3].rows)
    var rooms: [RoomID: Room] = [:]
    var wentBack: [RoomID] = []
    for row in results[0].rows {
      let id = try row.room(0)
      guard let properties = try properties(row) else { continue }
      let version = try row.integer(12)
      if version < versions[id] ?? 0 { wentBack.append(id) }
      rooms[id] = Room(
        id: id, properties, rules: rules[id] ?? [], roles: roles[id] ?? [],
        people: (known[id]?.people ?? .none).with(people[id] ?? []), accessVersion: version)
    }
    rooms = try await addingBlocks(to: rooms, in: transaction)
    // An older version than this node knew belongs to another database: a backup was restored.
    guard wentBack.isEmpty else {
      return rooms.merging(try await self.rooms(wentBack, in: transaction)) { _, read in read }
    }
    return rooms
  }

  /// Returns the rooms with those of their people who may not write in a dialog.
  private static func addingBlocks(
    to rooms: [RoomID: Room], in transaction: Transaction
  ) async throws -> [RoomID: Room] {
    let dialogs = rooms.values.filter { $0.kind == .dialog }
    if dialogs.isEmpty { return rooms }
    let users = Array(Set(dialogs.flatMap(\.named)))
    let blocks = try await People.blocked(among: users, in: transaction)
    if blocks.isEmpty { return rooms }
    var rooms = rooms
    for dialog in dialogs {
      let named = Set(dialog.named)
      let blocked = blocks.filter { named.contains($0.user) && named.contains($0.blocked) }
      rooms[dialog.id] = Room(
        id: dialog.id, dialog.properties, rules: dialog.rules, roles: dialog.roles,
        people: dialog.people, blocked: Set(blocked.map(\.blocked)),
        accessVersion: dialog.accessVersion)
    }
    return rooms
  }

  /// Returns the dialogs in which both of these people are named, or by rules.
  static func dialogs(
    of one: UserID, and other: UserID, in transaction: Transaction
  ) async throws -> [RoomID] {
    try await transaction.query(
      """
      SELECT r.id FROM rooms r WHERE r.type = 1 AND r.deleted_at IS NULL AND r.id IN (
          SELECT room_id FROM room_people WHERE user_id = $1 AND state <> 0
          UNION SELECT room_id FROM room_rules WHERE subject = $1)
        AND r.id IN (
          SELECT room_id FROM room_people WHERE user_id = $2 AND state <> 0
          UNION SELECT room_id FROM room_rules WHERE subject = $2)
      """, [.id(one), .id(other)]
    ).map { try $0.room(0) }
  }

  /// Locks these rooms until the transaction ends. The locks are on the rows of the heads, for which messages wait
  /// too.
  static func lock(_ ids: [RoomID], in transaction: Transaction) async throws {
    try transaction.willLock(.roomHeads)
    // In ascending order, so that two transactions never wait for each other.
    _ = try await transaction.pipeline(ids.sorted().map { Statement(lockSQL, [.room($0)]) })
  }

  private static let lockSQL = SQL(
    sqlite: "SELECT room_id FROM room_heads WHERE room_id = $1",
    postgres: "SELECT room_id FROM room_heads WHERE room_id = $1 FOR UPDATE")

  // `$1` is a list of ids (`SQLValue.rooms`).

  private static let roomsSQL = SQL(
    sqlite: """
      SELECT r.id, r.type, r.name, r.level_admin, r.owner_user, r.owner_entity, r.by_invitation,
        r.created_at, r.default_permissions, r.team_id, r.write_block, r.dialog_key,
        h.access_version, r.ttl_seconds, r.retention_days
      FROM rooms r JOIN room_heads h ON h.room_id = r.id
      WHERE r.id IN (SELECT value FROM json_each($1)) AND r.deleted_at IS NULL
      """,
    postgres: """
      SELECT r.id, r.type, r.name, r.level_admin, r.owner_user, r.owner_entity, r.by_invitation,
        r.created_at, r.default_permissions, r.team_id, r.write_block, r.dialog_key,
        h.access_version, r.ttl_seconds, r.retention_days
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

  /// Returns nil for a kind that only a newer release knows.
  private static func properties(_ row: Row) throws -> Room.Properties? {
    guard let kind = RoomKind(code: try row.integer(1)) else { return nil }
    return Room.Properties(
      name: try row.text(2), kind: kind, levelAdmin: try row.integer(3),
      ownerUser: try row.userOrNobody(4), ownerEntity: try row.optional(5, row.uuid),
      isByInvitation: try row.bool(6), createdAt: try row.time(7),
      defaultPermissions: Permissions(rawValue: UInt8(truncatingIfNeeded: try row.integer(8))),
      team: try row.optional(9) { TeamID(try row.uuid($0)) },
      // A value that only a newer release knows still blocks writing.
      writeBlock: try row.optional(10) {
        WriteBlock(rawValue: try row.integer($0)) ?? .teamInactive
      },
      pair: try row.optional(11, row.blob).flatMap { DialogKey(bytes: $0)?.pair },
      ttlSeconds: try row.optional(13, row.integer),
      retentionDays: try row.optional(14, row.integer))
  }

  private static func rule(_ row: Row) throws -> RoomRule {
    RoomRule(
      subject: try row.uuid(1),
      permissions: Permissions(rawValue: UInt8(truncatingIfNeeded: try row.integer(2))),
      level: try row.integer(3), isAccepted: try row.bool(4))
  }

  // MARK: Writing

  /// Inserts a room, with access version 1.
  static func insert(
    _ room: Room.Properties, in transaction: Transaction
  ) async throws -> RoomID {
    let key = room.pair.map { DialogKey(team: room.team, pair: $0) }
    let row = try await transaction.first(
      """
      INSERT INTO rooms (type, name, level_admin, owner_user, owner_entity, by_invitation,
        created_at, default_permissions, team_id, write_block, dialog_key, ttl_seconds,
        retention_days)
      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) RETURNING id
      """,
      [
        .integer(room.kind.code), .text(room.name), .integer(room.levelAdmin),
        .userOrNobody(room.ownerUser), .optional(room.ownerEntity) { .uuid($0) },
        .bool(room.isByInvitation), .time(room.createdAt),
        .integer(Int64(room.defaultPermissions.rawValue)), .optional(room.team) { .id($0) },
        .optional(room.writeBlock) { .integer($0.rawValue) },
        .optional(key) { .blob($0.bytes) }, .optional(room.ttlSeconds) { .integer($0) },
        .optional(room.retentionDays) { .integer($0) },
      ])
    guard let row else { throw DatabaseError(kind: .other, message: "INSERT gave no id") }
    let id = try row.room(0)
    try await transaction.execute(
      """
      INSERT INTO room_heads (room_id, last_seq, last_ts, access_version, secrecy)
      VALUES ($1, 0, 0, 1, $2)
      """, [.room(id), room.kind == .secret ? .integer(room.ttlSeconds ?? 0) : .null])
    return id
  }

  /// Writes those properties that can change.
  static func update(
    _ id: RoomID, _ room: Room.Properties, in transaction: Transaction
  ) async throws {
    try await transaction.execute(
      """
      UPDATE rooms SET name = $2, level_admin = $3, by_invitation = $4, default_permissions = $5,
        write_block = $6, retention_days = $7
      WHERE id = $1
      """,
      [
        .room(id), .text(room.name), .integer(room.levelAdmin), .bool(room.isByInvitation),
        .integer(Int64(room.defaultPermissions.rawValue)),
        .optional(room.writeBlock) { .integer($0.rawValue) },
        .optional(room.retentionDays) { .integer($0) },
      ])
  }

  /// Puts somebody in the place of the creator.
  static func setOwner(
    _ user: UserID, of id: RoomID, in transaction: Transaction
  ) async throws {
    try await transaction.execute(
      "UPDATE rooms SET owner_user = $2 WHERE id = $1", [.room(id), .id(user)])
  }

  static func markDeleted(
    _ id: RoomID, at time: Timestamp, in transaction: Transaction
  ) async throws {
    try await transaction.execute(
      "UPDATE rooms SET deleted_at = $2 WHERE id = $1", [.room(id), .time(time)])
    try await transaction.execute("DELETE FROM room_rules WHERE room_id = $1", [.room(id)])
    try await RoomPeopleStore.removeAll(from: id, transaction)
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

  /// Raises the room's access version and returns the new one. No message that was checked under an older version
  /// enters after this.
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

  /// Sets why nobody may write in these rooms, and raises their access versions. The caller has locked the rooms.
  static func setWriteBlock(
    _ block: WriteBlock?, of ids: [RoomID], in transaction: Transaction
  ) async throws {
    _ = try await transaction.pipeline([
      Statement(writeBlockSQL, [.rooms(ids), .optional(block) { .integer($0.rawValue) }]),
      Statement(raiseAllSQL, [.rooms(ids)]),
    ])
  }

  private static let writeBlockSQL = SQL(
    sqlite: """
      UPDATE rooms SET write_block = $2 WHERE id IN (SELECT value FROM json_each($1))
      """,
    postgres: """
      UPDATE rooms SET write_block = $2::bigint
      WHERE id IN (SELECT value::bigint FROM json_array_elements_text($1::json) AS list (value))
      """)

  private static let raiseAllSQL = SQL(
    sqlite: """
      UPDATE room_heads SET access_version = access_version + 1
      WHERE room_id IN (SELECT value FROM json_each($1))
      """,
    postgres: """
      UPDATE room_heads SET access_version = access_version + 1
      WHERE room_id IN (SELECT value::bigint FROM json_array_elements_text($1::json) AS list (value))
      """)

  // MARK: Dialogs

  static func dialog(_ key: DialogKey, in transaction: Transaction) async throws -> RoomID? {
    try await transaction.first(
      "SELECT id FROM rooms WHERE dialog_key = $1 AND deleted_at IS NULL", [.blob(key.bytes)])?
      .room(0)
  }

  /// The dialogs of a team, also those that one of the two has left.
  static func dialogs(of team: TeamID, in transaction: Transaction) async throws -> [RoomID] {
    try await transaction.query(
      "SELECT id FROM rooms WHERE team_id = $1 AND type = 1 AND deleted_at IS NULL", [.id(team)]
    ).map { try $0.room(0) }
  }

  /// The same for the dialogs of one user.
  static func dialogs(
    of team: TeamID, with user: UserID, in transaction: Transaction
  ) async throws -> [RoomID] {
    try await transaction.query(
      """
      SELECT r.id FROM rooms r JOIN room_people p ON p.room_id = r.id AND p.user_id = $2
      WHERE r.team_id = $1 AND r.type = 1 AND r.deleted_at IS NULL
      """, [.id(team), .id(user)]
    ).map { try $0.room(0) }
  }

  // MARK: Finding

  /// Returns rooms in which a person is named, or by a rule, waiting ones too; at most `limit`.
  static func rooms(
    naming user: UserID, limit: Int, in transaction: Transaction
  ) async throws -> [RoomID] {
    try await transaction.query(
      """
      SELECT room_id FROM room_people WHERE user_id = $1 AND state <> 0
      UNION SELECT room_id FROM room_rules WHERE subject = $1
      ORDER BY room_id LIMIT $2
      """, [.id(user), .integer(Int64(limit))]
    ).map { try $0.room(0) }
  }

  /// Returns the ids above `after`, ascending, of rooms with an accepted rule for the subject.
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

  /// Returns the ids above `after`, ascending, of rooms with a rule for the subject that waits for its answer.
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

  /// Returns everything that admits this caller to rooms, each with an outline of its room: accepted rules, with one
  /// statement per subject; being named; and the channels of teams. Returns nil if one of these has more than `limit`
  /// rows.
  static func inbox(
    of caller: Caller, limit: Int, in transaction: Transaction
  ) async throws -> [InboxLine]? {
    var sources: [(statement: Statement, isOwn: Bool)] = Set(caller.subjects).map {
      (
        Statement(inboxSQL, [.uuid($0), .integer(Int64(limit) + 1)]),
        $0 == caller.userID.uuid
      )
    }
    if caller.sessionID != nil {
      sources.append((RoomPeopleStore.inbox(of: caller.userID, limit: limit), true))
      sources.append((Statement(channelsSQL, [.rooms(caller.channels)]), true))
    }
    let results = try await transaction.pipeline(sources.map(\.statement))
    var lines: [InboxLine] = []
    for (source, result) in zip(sources, results) {
      guard result.rows.count <= limit else { return nil }
      for row in result.rows {
        // A room whose kind this release does not know counts as not existing.
        guard let kind = RoomKind(code: try row.integer(1)) else { continue }
        lines.append(
          InboxLine(
            room: try row.room(0), kind: kind, ownerUser: try row.userOrNobody(2),
            permissions: Permissions(rawValue: UInt8(truncatingIfNeeded: try row.integer(3))),
            isOwn: source.isOwn, activeAt: max(try row.time(4), try row.time(5))))
      }
    }
    return lines
  }

  /// `$1` is a list of ids (`SQLValue.rooms`). Every member of a team may read its channel.
  private static let channelsSQL = SQL(
    sqlite: """
      SELECT r.id, r.type, r.owner_user, 1, h.message_ts, r.created_at
      FROM rooms r JOIN room_heads h ON h.room_id = r.id
      WHERE r.id IN (SELECT value FROM json_each($1)) AND r.type = 2 AND r.deleted_at IS NULL
      """,
    postgres: """
      SELECT r.id, r.type, r.owner_user, 1::bigint, h.message_ts, r.created_at
      FROM rooms r JOIN room_heads h ON h.room_id = r.id
      WHERE r.id IN (SELECT value::bigint FROM json_array_elements_text($1::json) AS list (value))
        AND r.type = 2 AND r.deleted_at IS NULL
      """)

  private static let inboxSQL: SQL = """
    SELECT rule.room_id, r.type, r.owner_user, rule.permissions, h.message_ts, r.created_at
    FROM room_rules rule JOIN rooms r ON r.id = rule.room_id
      JOIN room_heads h ON h.room_id = rule.room_id
    WHERE rule.subject = $1 AND rule.accepted = 1 AND r.deleted_at IS NULL LIMIT $2
    """

  /// The head of a room's log.
  struct Head: Sendable {
    /// 0 for an empty log.
    let lastSeq: Int64
    /// The seq of the last message; 0 if there is none.
    let messageSeq: Int64
    /// The time of the last message; 0 milliseconds if there is none.
    let messageTime: Timestamp
  }

  /// Reads the heads of rooms. Rooms that never existed are left out.
  static func heads(
    _ ids: [RoomID], in transaction: Transaction
  ) async throws -> [RoomID: Head] {
    var heads: [RoomID: Head] = [:]
    for row in try await transaction.query(headsSQL, [.rooms(ids)]) {
      heads[try row.room(0)] = Head(
        lastSeq: try row.integer(1), messageSeq: try row.integer(2), messageTime: try row.time(3))
    }
    return heads
  }

  /// Reads the last seqs of rooms, 0 for an empty log. Rooms that never existed are left out.
  static func lastSeqs(
    _ ids: [RoomID], in transaction: Transaction
  ) async throws -> [RoomID: Int64] {
    try await heads(ids, in: transaction).mapValues(\.lastSeq)
  }

  private static let headsSQL = SQL(
    sqlite: """
      SELECT room_id, last_seq, message_seq, message_ts FROM room_heads
      WHERE room_id IN (SELECT value FROM json_each($1))
      """,
    postgres: """
      SELECT room_id, last_seq, message_seq, message_ts FROM room_heads
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

/// The key by which a dialog is found: its team, or zeros, and its two people. 48 bytes.
struct DialogKey: Hashable {
  let team: TeamID?
  let pair: DialogPair

  init(team: TeamID?, pair: DialogPair) {
    self.team = team
    self.pair = pair
  }

  var bytes: [UInt8] {
    (team?.uuid ?? .zero).bytes + pair.low.uuid.bytes + pair.high.uuid.bytes
  }

  /// For `Transaction.exclusively`. Other pairs may have the same number; they only wait for each other then.
  var lockNumber: Int64 { Int64(bitPattern: pair.low.uuid.low ^ pair.high.uuid.low) }

  init?(bytes: [UInt8]) {
    guard bytes.count == 48, let team = UUID(bytes: Array(bytes[..<16])),
      let low = UUID(bytes: Array(bytes[16..<32])), let high = UUID(bytes: Array(bytes[32...]))
    else { return nil }
    self.team = team == .zero ? nil : TeamID(team)
    pair = DialogPair(UserID(low), UserID(high))
  }
}
