package import Basics
internal import Database
internal import Events

/// What a person has read of a room, and what is left.
package struct RoomState: Sendable {
  /// The seq up to which the person has read; nil if the person has no mark in the room yet.
  package let lastReadSeq: Int64?
  /// The number of messages behind the mark, deleted ones too. The person's own are never among them, because sending
  /// one moves the mark.
  package let unread: Int64
  /// The number of unread messages that mention the person now.
  package let mentions: Int64
  /// Whether the person has muted the room, for a time or for good.
  package let isMuted: Bool
  /// When the room ceases to be muted; nil if it is not muted, or for good.
  package let mutedUntil: Timestamp?
  /// The last seq of the room.
  package let head: Int64
  /// The number of messages in the room.
  let total: Int64

  /// Returns the same with the mark at this seq, up to which the room has so many messages.
  func moved(to seq: Int64, ordinal: Int64, mentions: Int64) -> RoomState {
    RoomState(
      lastReadSeq: seq, unread: max(0, total - ordinal), mentions: mentions, isMuted: isMuted,
      mutedUntil: mutedUntil, head: head, total: total)
  }
}

/// The tables of read marks.
enum MarkStore {
  /// Sets the marks of people who have just come into a room to its head.
  static func start(
    _ users: [UserID], in room: RoomID, _ transaction: Transaction
  ) async throws {
    _ = try await transaction.pipeline(
      users.map { Statement(startSQL, [.id($0), .room(room)]) })
  }

  private static let startSQL: SQL = """
    INSERT INTO room_marks (user_id, room_id, seq, ordinal)
      SELECT $1, room_id, last_seq, last_seq - non_messages FROM room_heads WHERE room_id = $2
    ON CONFLICT (user_id, room_id) DO UPDATE SET seq = excluded.seq, ordinal = excluded.ordinal
    """

  /// Ends the marks of people who may not read a room any more. When they come back, they start at its head again.
  static func end(
    _ users: [UserID], in room: RoomID, _ transaction: Transaction
  ) async throws {
    _ = try await transaction.pipeline(
      users.map { Statement(endSQL, [.id($0), .room(room)]) })
  }

  /// An ended mark is below 0 and keeps the head at that time: no message up to that one moves it (`moveSQL`).
  private static let endSQL: SQL = """
    INSERT INTO room_marks (user_id, room_id, seq, ordinal)
      SELECT $1, room_id, -1 - last_seq, 0 FROM room_heads WHERE room_id = $2
    ON CONFLICT (user_id, room_id) DO UPDATE SET seq = excluded.seq, ordinal = 0
    """

  /// Sets the marks of one person where the person has none: to the heads of these rooms, or to the person's own last
  /// message if that has not moved the mark yet.
  static func startWhereMissing(
    _ user: UserID, in rooms: [RoomID], _ transaction: Transaction
  ) async throws {
    try await transaction.execute(startWhereMissingSQL, [.id(user), .rooms(rooms)])
  }

  private static let startWhereMissingSQL = SQL(
    sqlite: """
      INSERT INTO room_marks (user_id, room_id, seq, ordinal)
        SELECT $1, h.room_id, coalesce(o.seq, h.last_seq),
          coalesce(o.seq - o.non_messages, h.last_seq - h.non_messages)
        FROM room_heads h LEFT JOIN entries o ON o.room_id = h.room_id AND o.seq = (
          SELECT max(e.seq) FROM entries e
          WHERE e.room_id = h.room_id AND e.seq > h.marked_seq AND e.sender = $1 AND e.type < 16)
        WHERE h.room_id IN (SELECT value FROM json_each($2)) ORDER BY h.room_id
      ON CONFLICT (user_id, room_id) DO UPDATE SET seq = excluded.seq, ordinal = excluded.ordinal
        WHERE room_marks.seq < 0
      """,
    postgres: """
      INSERT INTO room_marks (user_id, room_id, seq, ordinal)
        SELECT $1, h.room_id, coalesce(o.seq, h.last_seq),
          coalesce(o.seq - o.non_messages, h.last_seq - h.non_messages)
        FROM room_heads h LEFT JOIN LATERAL (
          SELECT e.seq, e.non_messages FROM entries e
          WHERE e.room_id = h.room_id AND e.seq > h.marked_seq AND e.sender = $1 AND e.type < 16
          ORDER BY e.seq DESC LIMIT 1) o ON true
        WHERE h.room_id IN (
          SELECT value::bigint FROM json_array_elements_text($2::json) AS list (value))
        ORDER BY h.room_id
      ON CONFLICT (user_id, room_id) DO UPDATE SET seq = excluded.seq, ordinal = excluded.ordinal
        WHERE room_marks.seq < 0
      """)

  /// Returns those of the rooms in which the person has a mark.
  static func marked(
    _ user: UserID, among rooms: [RoomID], in transaction: Transaction
  ) async throws -> Set<RoomID> {
    Set(
      try await transaction.query(markedSQL, [.id(user), .rooms(rooms)]).map { try $0.room(0) })
  }

  private static let markedSQL = SQL(
    sqlite: """
      SELECT room_id FROM room_marks
      WHERE user_id = $1 AND seq >= 0 AND room_id IN (SELECT value FROM json_each($2))
      """,
    postgres: """
      SELECT room_id FROM room_marks WHERE user_id = $1 AND seq >= 0 AND room_id IN (
        SELECT value::bigint FROM json_array_elements_text($2::json) AS list (value))
      """)

  /// Reads what a person has read of these rooms. Rooms that never existed are left out.
  static func states(
    of user: UserID, in rooms: [RoomID], at now: Timestamp = .now, _ transaction: Transaction
  ) async throws -> [RoomID: RoomState] {
    if rooms.isEmpty { return [:] }
    let statement = statement(user, rooms)
    return try states(try await transaction.query(statement.sql, statement.values), at: now)
  }

  /// The statement for `states(_:at:)`.
  static func statement(_ user: UserID, _ rooms: [RoomID]) -> Statement {
    Statement(statesSQL, [.id(user), .rooms(rooms)])
  }

  static func states(_ rows: [Row], at now: Timestamp) throws -> [RoomID: RoomState] {
    var states: [RoomID: RoomState] = [:]
    for row in rows {
      let (head, total) = (try row.integer(1), try row.integer(2))
      let mark = try row.optional(3, row.integer).flatMap { $0 < 0 ? nil : $0 }
      let mutedUntil = try row.optional(6, row.time)
      let isMuted = try row.optional(5, row.integer) == 1 && mutedUntil.map { $0 > now } ?? true
      states[try row.room(0)] = RoomState(
        lastReadSeq: mark,
        unread: mark == nil ? 0 : total - (try row.optional(4, row.integer) ?? 0),
        mentions: mark == nil ? 0 : try row.integer(7), isMuted: isMuted,
        mutedUntil: isMuted ? mutedUntil : nil, head: head, total: total)
    }
    return states
  }

  // A message of the person's own that is behind `marked_seq` has not moved the stored mark yet, but it counts.

  /// `$1` is the person, and `$2` a list of rooms (`SQLValue.rooms`).
  private static let statesSQL = SQL(
    sqlite: """
      SELECT s.room_id, s.last_seq, s.total, s.mark, s.ordinal, s.is_muted, s.muted_until,
        (SELECT count(*) FROM mentions x
          WHERE x.user_id = $1 AND x.room_id = s.room_id AND x.seq > s.mark)
      FROM (
        SELECT h.room_id, h.last_seq, h.last_seq - h.non_messages AS total, m.is_muted, m.muted_until,
          CASE WHEN o.seq IS NULL OR o.seq < m.seq THEN m.seq ELSE o.seq END AS mark,
          CASE WHEN o.seq IS NULL OR o.seq < m.seq THEN m.ordinal ELSE o.seq - o.non_messages END
            AS ordinal
        FROM room_heads h
          LEFT JOIN room_marks m ON m.user_id = $1 AND m.room_id = h.room_id
          LEFT JOIN entries o ON o.room_id = h.room_id AND o.seq = (
            SELECT max(e.seq) FROM entries e
            WHERE e.room_id = h.room_id AND e.seq > h.marked_seq AND e.sender = $1 AND e.type < 16)
        WHERE h.room_id IN (SELECT value FROM json_each($2))) s
      """,
    postgres: """
      SELECT s.room_id, s.last_seq, s.total, s.mark, s.ordinal, s.is_muted, s.muted_until,
        (SELECT count(*) FROM mentions x
          WHERE x.user_id = $1 AND x.room_id = s.room_id AND x.seq > s.mark)
      FROM (
        SELECT h.room_id, h.last_seq, h.last_seq - h.non_messages AS total, m.is_muted, m.muted_until,
          CASE WHEN o.seq IS NULL OR o.seq < m.seq THEN m.seq ELSE o.seq END AS mark,
          CASE WHEN o.seq IS NULL OR o.seq < m.seq THEN m.ordinal ELSE o.seq - o.non_messages END
            AS ordinal
        FROM room_heads h
          LEFT JOIN room_marks m ON m.user_id = $1 AND m.room_id = h.room_id
          LEFT JOIN LATERAL (
            SELECT e.seq, e.non_messages FROM entries e
            WHERE e.room_id = h.room_id AND e.seq > h.marked_seq AND e.sender = $1 AND e.type < 16
            ORDER BY e.seq DESC LIMIT 1) o ON true
        WHERE h.room_id IN (
          SELECT value::bigint FROM json_array_elements_text($2::json) AS list (value))) s
      """)

  /// Moves a mark forward. `ordinal` is the number of messages up to `seq`.
  static func move(_ user: UserID, in room: RoomID, to seq: Int64, ordinal: Int64) -> Statement {
    Statement(moveSQL, [.id(user), .room(room), .integer(seq), .integer(ordinal)])
  }

  /// Notes when a person has read up to a seq.
  static func note(
    _ user: UserID, in room: RoomID, read seq: Int64, at time: Timestamp
  ) -> Statement {
    Statement(
      """
      INSERT INTO room_reads (room_id, user_id, seq, ts) VALUES ($1, $2, $3, $4)
      ON CONFLICT DO NOTHING
      """, [.room(room), .id(user), .integer(seq), .time(time)])
  }

  private static let moveSQL: SQL = """
    INSERT INTO room_marks (user_id, room_id, seq, ordinal) VALUES ($1, $2, $3, $4)
    ON CONFLICT (user_id, room_id) DO UPDATE SET seq = excluded.seq, ordinal = excluded.ordinal
    WHERE room_marks.seq < excluded.seq AND excluded.seq > -1 - room_marks.seq
    """

  /// The statement that returns the number of messages up to and including a seq, how many later ones mention the person,
  /// and the last seq that the person has reached by reading or sending; null if there is none.
  static func place(_ user: UserID, _ room: RoomID, _ seq: Int64) -> Statement {
    Statement(placeSQL, [.id(user), .room(room), .integer(seq)])
  }

  /// A row that is lost is no message that anybody can read, so the one before it counts.
  private static let placeSQL: SQL = """
    SELECT
      coalesce((SELECT seq - non_messages FROM entries WHERE room_id = $2 AND seq <= $3
        ORDER BY seq DESC LIMIT 1), 0),
      (SELECT count(*) FROM mentions WHERE user_id = $1 AND room_id = $2 AND seq > $3),
      (SELECT max(reached.seq) FROM (
        SELECT max(seq) AS seq FROM room_reads WHERE room_id = $2 AND user_id = $1
        UNION ALL
        SELECT max(e.seq) FROM entries e JOIN room_heads h ON h.room_id = e.room_id
        WHERE e.room_id = $2 AND e.seq > h.marked_seq AND e.sender = $1 AND e.type < 16) reached)
    """

  /// The statement that returns how many people have a mark in the room, counted up to a limit.
  static func readerCount(_ room: RoomID, limit: Int64) -> Statement {
    Statement(
      """
      SELECT count(*) FROM (SELECT 1 FROM room_marks WHERE room_id = $1 AND seq >= 0 LIMIT $2) AS readers
      """, [.room(room), .integer(limit)])
  }

  /// Mutes a room for a person or not, for good or until a time.
  static func mute(
    _ user: UserID, in room: RoomID, isMuted: Bool, until: Timestamp?, _ transaction: Transaction
  ) async throws {
    try await transaction.execute(
      "UPDATE room_marks SET is_muted = $3, muted_until = $4 WHERE user_id = $1 AND room_id = $2",
      [.id(user), .room(room), .bool(isMuted), .optional(until) { .time($0) }])
  }

  /// Returns who has muted these rooms, each with the time until which that counts.
  static func muted(
    in rooms: [RoomID], _ transaction: Transaction
  ) async throws -> [RoomID: [UserID: Timestamp]] {
    var muted: [RoomID: [UserID: Timestamp]] = [:]
    for row in try await transaction.query(mutedSQL, [.rooms(rooms)]) {
      muted[try row.room(0), default: [:]][try row.id(1)] =
        try row.optional(2, row.time) ?? .latest
    }
    return muted
  }

  private static let mutedSQL = SQL(
    sqlite: """
      SELECT room_id, user_id, muted_until FROM room_marks
      WHERE is_muted = 1 AND room_id IN (SELECT value FROM json_each($1))
      """,
    postgres: """
      SELECT room_id, user_id, muted_until FROM room_marks
      WHERE is_muted = 1 AND room_id IN (
        SELECT value::bigint FROM json_array_elements_text($1::json) AS list (value))
      """)

  // MARK: Who has seen a message

  /// Returns when each person's mark first reached this seq.
  static func readers(
    of seq: Int64, in room: RoomID, _ transaction: Transaction
  ) async throws -> [UserID: Timestamp] {
    var readers: [UserID: Timestamp] = [:]
    for row in try await transaction.query(readersSQL, [.room(room), .integer(seq)]) {
      // Whose mark began beyond the message has no move that reached it.
      guard let time = try row.optional(1, row.time) else { continue }
      let user: UserID = try row.id(0)
      readers[user] = min(readers[user] ?? .latest, time)
    }
    return readers
  }

  /// Of each person the first of the stored moves that reached `$2`, and the messages that are not among them yet.
  private static let readersSQL: SQL = """
    SELECT m.user_id, (SELECT r.ts FROM room_reads r
      WHERE r.room_id = $1 AND r.user_id = m.user_id AND r.seq >= $2 ORDER BY r.seq LIMIT 1)
    FROM room_marks m WHERE m.room_id = $1 AND m.seq >= $2
    UNION ALL
    SELECT e.sender, min(e.ts) FROM entries e JOIN room_heads h ON h.room_id = e.room_id
    WHERE e.room_id = $1 AND e.seq > h.marked_seq AND e.seq >= $2 AND e.type < 16
    GROUP BY e.sender
    """
}
