internal import Basics
internal import Database

/// The table of the keys of secret texts.
enum SecretKeyStore {
  /// The statement that adds the key of a new message. `expiresAt` is when it is destroyed by itself.
  static func add(
    _ key: SecretKey, of message: MessageID, in room: RoomID, seq: Int64, expiresAt: Timestamp?
  ) -> Statement {
    Statement(
      """
      INSERT INTO message_keys (id, key, room_id, seq, expires_at) VALUES ($1, $2, $3, $4, $5)
      """,
      [
        .id(message), .blob(key.bytes), .room(room), .integer(seq),
        .optional(expiresAt) { .time($0) },
      ])
  }

  /// The statement that puts the key of a new text in place of the one before, which is destroyed.
  static func replace(_ message: MessageID, with key: SecretKey) -> Statement {
    Statement("UPDATE message_keys SET key = $2 WHERE id = $1", [.id(message), .blob(key.bytes)])
  }

  static func destroy(_ message: MessageID) -> Statement {
    Statement("DELETE FROM message_keys WHERE id = $1", [.id(message)])
  }

  /// Reads keys. Those that were destroyed are left out.
  static func keys(
    of messages: [MessageID], in transaction: Transaction
  ) async throws -> [MessageID: SecretKey] {
    if messages.isEmpty { return [:] }
    var keys: [MessageID: SecretKey] = [:]
    for row in try await transaction.query(keysSQL, [.ids(messages)]) {
      keys[try row.id(0)] = SecretKey(try row.blob(1))
    }
    return keys
  }

  private static let keysSQL = SQL(
    sqlite: """
      WITH RECURSIVE list (i) AS (
        SELECT 0 UNION ALL SELECT i + 1 FROM list WHERE (i + 1) * 16 < length($1))
      SELECT id, key FROM message_keys WHERE id IN (SELECT substr($1, i * 16 + 1, 16) FROM list)
      """,
    postgres: """
      SELECT id, key FROM message_keys WHERE id IN (
        SELECT substring($1::bytea FROM i * 16 + 1 FOR 16)
        FROM generate_series(0, length($1::bytea) / 16 - 1) AS i)
      """)

  /// The statement that reads the key by which the digest of an entry was made: that of a message, or of the message
  /// that an edit changed. 16 is the code of edits.
  static func keyOfDigest(of seq: Int64, in room: RoomID) -> Statement {
    Statement(
      """
      SELECT k.key FROM entries e
        LEFT JOIN entries t ON e.type = 16 AND t.room_id = e.room_id AND t.seq = e.target_seq
        JOIN message_keys k ON k.id = coalesce(t.id, e.id)
      WHERE e.room_id = $1 AND e.seq = $2
      """, [.room(room), .integer(seq)])
  }

  /// The statement that forgets the digest of an entry whose text was destroyed.
  static func forgetDigest(of seq: Int64, in room: RoomID) -> Statement {
    Statement(
      "UPDATE entries SET digest = NULL WHERE room_id = $1 AND seq = $2",
      [.room(room), .integer(seq)])
  }

  /// Returns messages whose time is over, the oldest first.
  static func expired(
    at now: Timestamp, limit: Int, in transaction: Transaction
  ) async throws -> [(room: RoomID, seq: Int64, id: MessageID)] {
    try await transaction.query(
      """
      SELECT room_id, seq, id FROM message_keys WHERE expires_at <= $1
      ORDER BY expires_at LIMIT $2
      """, [.time(now), .integer(Int64(limit))]
    ).map { (try $0.room(0), try $0.integer(1), try $0.id(2)) }
  }

  /// Destroys keys and texts of a room, at most `limit` of them. Returns how many there were.
  static func destroyAll(
    of room: RoomID, limit: Int, in transaction: Transaction
  ) async throws -> Int {
    let ids: [MessageID] = try await transaction.query(
      "SELECT id FROM message_keys WHERE room_id = $1 LIMIT $2",
      [.room(room), .integer(Int64(limit))]
    ).map { try $0.id(0) }
    _ = try await transaction.pipeline(
      ids.flatMap { [destroy($0), Statement("DELETE FROM contents WHERE id = $1", [.id($0)])] })
    return ids.count
  }

  /// Returns deleted rooms of which keys are left.
  static func deletedRooms(in transaction: Transaction) async throws -> [RoomID] {
    try await transaction.query(
      """
      SELECT id FROM rooms WHERE type = 3 AND deleted_at IS NOT NULL
        AND EXISTS (SELECT 1 FROM message_keys k WHERE k.room_id = rooms.id)
      """
    ).map { try $0.room(0) }
  }
}
