internal import Basics
internal import Database

/// Finds a message by its id alone. Nothing else needs that, so SQLite has no index of all ids, which every message would
/// pay for: it is looked for where it most likely is, and then everywhere.
struct MessageFinder: Sendable {
  /// The database with the search index, in which the log can be read, too.
  let index: any SQLDatabase

  /// An id is made shortly before its entry is written.
  private static let nearbyMilliseconds: Int64 = 10_000
  /// A message's time is at most so much before that of its id: clocks of several nodes differ, and are set back.
  private static let skewMilliseconds: Int64 = 3_600_000
  /// The most entries that one statement passes over.
  private static let entriesPerStretch: Int64 = 50_000

  /// Nil if there is no such message.
  func place(of id: MessageID) async throws -> (room: RoomID, seq: Int64)? {
    if let place = try await index.read({ try await Self.indexed(id, in: $0) }) { return place }
    if index.isShared { return nil }
    return try await search(for: id)
  }

  private static func indexed(
    _ id: MessageID, in transaction: Transaction
  ) async throws -> (room: RoomID, seq: Int64)? {
    let time = id.uuid.timestamp
    let row = try await transaction.first(
      indexedSQL,
      [
        .id(id), .integer(SearchPlace.first(at: time.adding(milliseconds: -nearbyMilliseconds))),
        .integer(SearchPlace.first(at: time.adding(milliseconds: nearbyMilliseconds))),
      ])
    return try row.map { (try $0.room(0), try $0.integer(1)) }
  }

  /// On SQLite: messages without a client id, those of secret rooms, and those that can be found by their words.
  private static let indexedSQL = SQL(
    sqlite: """
      SELECT room_id, seq FROM entries WHERE id = $1 AND client_id IS NULL AND type < 16
      UNION ALL SELECT room_id, seq FROM message_keys WHERE id = $1
      UNION ALL
      SELECT e.room_id, e.seq
      FROM search_documents d JOIN entries e ON e.room_id = d.room_id AND e.seq = d.seq
      WHERE d.id >= $2 AND d.id < $3 AND e.id = $1 AND e.type < 16
      LIMIT 1
      """,
    postgres: """
      SELECT room_id, seq FROM entries
      WHERE id = $1 AND type < 16 AND $2::bigint IS NOT NULL AND $3::bigint IS NOT NULL
      """)

  /// Passes over all rooms that may have it, in stretches.
  private func search(for id: MessageID) async throws -> (room: RoomID, seq: Int64)? {
    let since = id.uuid.timestamp.adding(milliseconds: -Self.skewMilliseconds)
    let rooms = try await index.read { transaction in
      try await transaction.query(
        "SELECT room_id, last_seq FROM room_heads WHERE last_ts >= $1 ORDER BY last_ts",
        [.time(since)]
      ).map { (id: try $0.room(0), last: try $0.integer(1)) }
    }
    for room in rooms {
      var end = room.last
      // Backwards: what is deleted is mostly recent.
      while end > 0 {
        let (from, to) = (max(0, end - Self.entriesPerStretch), end)
        let row = try await index.read { transaction in
          try await transaction.first(
            """
            SELECT seq FROM entries
            WHERE room_id = $1 AND seq > $2 AND seq <= $3 AND id = $4 AND type < 16
            """, [.room(room.id), .integer(from), .integer(to), .id(id)])
        }
        if let row { return (room.id, try row.integer(0)) }
        end = from
      }
    }
    return nil
  }
}
