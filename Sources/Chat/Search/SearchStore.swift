internal import Basics
internal import Database

/// The tables of the search index.
enum SearchStore {
  // MARK: Indexing

  /// Returns the rooms whose log goes on behind what is indexed.
  static func roomsBehind(in transaction: Transaction) async throws -> [RoomID] {
    try await transaction.query(
      """
      SELECT h.room_id FROM room_heads h LEFT JOIN search_heads s ON s.room_id = h.room_id
      WHERE h.last_seq > coalesce(s.indexed_seq, 0)
      """
    ).map { try $0.room(0) }
  }

  /// Up to which seq a room is indexed, 0 if nothing is, and its last seq.
  struct Head: Sendable {
    let indexed: Int64
    let last: Int64
    /// False for rooms that are deleted or secret.
    let isSearchable: Bool
  }

  static func heads(
    of rooms: [RoomID], in transaction: Transaction
  ) async throws -> [RoomID: Head] {
    var heads: [RoomID: Head] = [:]
    for row in try await transaction.query(headsSQL, [.rooms(rooms)]) {
      heads[try row.room(0)] = Head(
        indexed: try row.integer(1), last: try row.integer(2), isSearchable: try row.bool(3))
    }
    return heads
  }

  private static let headsSQL = SQL(
    sqlite: """
      SELECT h.room_id, coalesce(s.indexed_seq, 0), h.last_seq,
        r.deleted_at IS NULL AND r.type <> 3
      FROM room_heads h JOIN rooms r ON r.id = h.room_id
        LEFT JOIN search_heads s ON s.room_id = h.room_id
      WHERE h.room_id IN (SELECT value FROM json_each($1))
      """,
    postgres: """
      SELECT h.room_id, coalesce(s.indexed_seq, 0), h.last_seq,
        CASE WHEN r.deleted_at IS NULL AND r.type <> 3 THEN 1::bigint ELSE 0::bigint END
      FROM room_heads h JOIN rooms r ON r.id = h.room_id
        LEFT JOIN search_heads s ON s.room_id = h.room_id
      WHERE h.room_id IN (
        SELECT value::bigint FROM json_array_elements_text($1::json) AS list (value))
      """)

  /// Up to which seq rooms are indexed; those of which nothing is are left out.
  static func indexedSeqs(
    of rooms: [RoomID], in transaction: Transaction
  ) async throws -> [RoomID: Int64] {
    var seqs: [RoomID: Int64] = [:]
    for row in try await transaction.query(indexedSQL, [.rooms(rooms)]) {
      seqs[try row.room(0)] = try row.integer(1)
    }
    return seqs
  }

  private static let indexedSQL = SQL(
    sqlite: """
      SELECT room_id, indexed_seq FROM search_heads
      WHERE room_id IN (SELECT value FROM json_each($1))
      """,
    postgres: """
      SELECT room_id, indexed_seq FROM search_heads
      WHERE room_id IN (
        SELECT value::bigint FROM json_array_elements_text($1::json) AS list (value))
      """)

  static func setIndexedSeq(_ seq: Int64, of room: RoomID) -> Statement {
    Statement(
      """
      INSERT INTO search_heads (room_id, indexed_seq) VALUES ($1, $2)
      ON CONFLICT (room_id) DO UPDATE SET indexed_seq = excluded.indexed_seq
      """, [.room(room), .integer(seq)])
  }

  /// The statement that reads entries of a room behind `$2` up to `$3`, at most `$4`: seq, type, target, text. Of a
  /// message also its author, its time and the entry that gave it its text; its text is null if it was deleted.
  static let entriesSQL: SQL = """
    SELECT e.seq, e.type, e.target_seq, e.sender, e.ts, coalesce(e.text_seq, e.seq), c.data
    FROM entries e LEFT JOIN contents c ON c.id = e.id AND e.type < 16 AND e.erased_at IS NULL
    WHERE e.room_id = $1 AND e.seq > $2 AND e.seq <= $3 ORDER BY e.seq LIMIT $4
    """

  /// The statement that removes a message of this time from the index. On SQLite a trigger removes the words.
  static func remove(_ seq: Int64, of room: RoomID, at time: Timestamp) -> Statement {
    let first = SearchPlace.first(at: time)
    return Statement(
      removeSQL,
      [.room(room), .integer(seq), .integer(first), .integer(first + SearchPlace.reach)])
  }

  /// SQLite finds the message by its place, which costs less than an index of rooms and seqs.
  private static let removeSQL: SQL = """
    DELETE FROM search_documents WHERE id = (
      SELECT id FROM search_documents
      WHERE id >= $3 AND id < $4 AND room_id = $1 AND seq = $2 LIMIT 1)
    """

  /// Returns the highest place that is taken from one on, and below another one; nil if all are free.
  static func lastPlace(
    behind first: Int64, before end: Int64 = .max, _ transaction: Transaction
  ) async throws -> Int64? {
    try await transaction.first(
      "SELECT max(id) FROM search_documents WHERE id >= $1 AND id < $2",
      [.integer(first), .integer(end)]
    ).flatMap { try $0.optional(0, $0.integer) }
  }

  /// Adds a document. On SQLite a trigger adds the words.
  static func add(_ document: SearchDocument, at place: Int64) -> Statement {
    Statement(
      addSQL,
      [
        .integer(place), .room(document.room), .integer(document.seq),
        .integer(document.textSeq), .text(document.words),
      ])
  }

  private static let addSQL = SQL(
    sqlite: """
      INSERT INTO search_documents (id, room_id, seq, text_seq, words)
        VALUES ($1, $2, $3, $4, $5)
      """,
    postgres: """
      INSERT INTO search_documents (id, room_id, seq, text_seq, words)
        VALUES ($1, $2, $3, $4, $5::text::tsvector)
      ON CONFLICT (room_id, seq) DO NOTHING
      """)

  // MARK: Searching

  /// A message that was found.
  struct Hit: Sendable {
    let room: RoomID
    let seq: Int64
    let place: Int64
  }

  /// Returns messages that match, newest first, with places from `first` and below `behind`. Only those in `rooms`, if
  /// that is not nil.
  static func hits(
    _ expression: SearchExpression, in rooms: [RoomID]?, first: Int64, behind: Int64, limit: Int,
    _ transaction: Transaction
  ) async throws -> [Hit] {
    // The best way to search depends on how frequent the words are, so plans for any words are of no use.
    _ = try await transaction.query(planSQL)
    var values: [SQLValue] = [
      .text(expression.sqlite), .text(expression.postgres), .integer(first), .integer(behind),
      .integer(Int64(limit)),
    ]
    if let rooms { values.append(.rooms(rooms)) }
    return try await transaction.query(rooms == nil ? hitsSQL : hitsInRoomsSQL, values).map {
      Hit(room: try $0.room(0), seq: try $0.integer(1), place: try $0.integer(2))
    }
  }

  private static let planSQL = SQL(
    sqlite: "SELECT 1", postgres: "SET LOCAL plan_cache_mode = force_custom_plan")

  // The log goes ahead of the index. So it is compared whether the words are those of the text as it is.

  private static let hitsSQL = SQL(
    sqlite: """
      SELECT d.room_id, d.seq, d.id
      FROM search_words w CROSS JOIN search_documents d CROSS JOIN entries e
      WHERE search_words MATCH $1 AND w.rowid >= $3 AND w.rowid < $4 AND d.id = w.rowid
        AND e.room_id = d.room_id AND e.seq = d.seq AND e.erased_at IS NULL
        AND coalesce(e.text_seq, e.seq) = d.text_seq AND $2 IS NOT NULL
      ORDER BY w.rowid DESC LIMIT $5
      """,
    postgres: """
      SELECT d.room_id, d.seq, d.id
      FROM search_documents d JOIN entries e ON e.room_id = d.room_id AND e.seq = d.seq
      WHERE d.words @@ $2::text::tsquery AND d.id >= $3 AND d.id < $4 AND e.erased_at IS NULL
        AND coalesce(e.text_seq, e.seq) = d.text_seq AND $1::text IS NOT NULL
      ORDER BY d.id DESC LIMIT $5
      """)

  /// `$6` is a list of rooms (`SQLValue.rooms`).
  private static let hitsInRoomsSQL = SQL(
    sqlite: """
      SELECT d.room_id, d.seq, d.id
      FROM search_words w CROSS JOIN search_documents d CROSS JOIN entries e
      WHERE search_words MATCH $1 AND w.rowid >= $3 AND w.rowid < $4 AND d.id = w.rowid
        AND d.room_id IN (SELECT value FROM json_each($6))
        AND e.room_id = d.room_id AND e.seq = d.seq AND e.erased_at IS NULL
        AND coalesce(e.text_seq, e.seq) = d.text_seq AND $2 IS NOT NULL
      ORDER BY w.rowid DESC LIMIT $5
      """,
    postgres: """
      SELECT d.room_id, d.seq, d.id
      FROM search_documents d JOIN entries e ON e.room_id = d.room_id AND e.seq = d.seq
      WHERE d.words @@ $2::text::tsquery AND d.id >= $3 AND d.id < $4
        AND d.room_id IN (
          SELECT value::bigint FROM json_array_elements_text($6::json) AS list (value))
        AND e.erased_at IS NULL AND coalesce(e.text_seq, e.seq) = d.text_seq
        AND $1::text IS NOT NULL
      ORDER BY d.id DESC LIMIT $5
      """)
}
