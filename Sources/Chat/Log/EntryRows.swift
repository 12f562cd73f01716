internal import Basics
internal import Database
internal import Events

/// Rows of `entries` with their contents, as all readers of the log select them: messages in their present state, and
/// edits with a text only while the message has it.
///
/// `$1` is the room, `$2` and `$3` are exclusive seqs, `$4` is the number of rows, and `$5` is the number of content
/// bytes after which to stop. With SQLite the driver stops reading. Postgres counts in the statement, without reading
/// the contents that are left out.
///
/// 16 is the code of edits. `m` is the message of an edit, and missing for edits whose text is not the present one.
enum EntryRows {
  static let sql = SQL(
    sqlite: """
      SELECT e.seq, e.id, e.type, e.sender, e.ts, e.client_id, e.target_seq, e.non_messages,
        e.erased_at, c.data, coalesce(m.extras, e.extras), e.text_seq, coalesce(m.id, e.id)
      FROM entries e
        LEFT JOIN entries m ON m.room_id = e.room_id
          AND m.seq = CASE e.type WHEN 16 THEN e.target_seq END AND m.text_seq = e.seq
          AND m.erased_at IS NULL
        LEFT JOIN contents c ON c.id = coalesce(m.id, e.id)
      WHERE e.room_id = $1 AND e.seq > $2 AND e.seq < $3 ORDER BY e.seq LIMIT $4
      """,
    postgres: """
      SELECT seq, id, type, sender, ts, client_id, target_seq, non_messages, erased_at, data, extras,
        text_seq, content_id
      FROM (
        SELECT e.seq, e.id, e.type, e.sender, e.ts, e.client_id, e.target_seq, e.non_messages,
          e.erased_at, c.data, coalesce(m.extras, e.extras) AS extras, e.text_seq,
          coalesce(m.id, e.id) AS content_id,
          sum(coalesce(octet_length(c.data), 0)) OVER (ORDER BY e.seq)
            - coalesce(octet_length(c.data), 0) AS bytes_before
        FROM (SELECT * FROM entries WHERE room_id = $1 AND seq > $2 AND seq < $3
            ORDER BY seq LIMIT $4) e
          LEFT JOIN entries m ON m.room_id = e.room_id
            AND m.seq = CASE e.type WHEN 16 THEN e.target_seq END AND m.text_seq = e.seq
            AND m.erased_at IS NULL
          LEFT JOIN contents c ON c.id = coalesce(m.id, e.id)) counted
      WHERE bytes_before < $5 ORDER BY seq
      """)

  /// Returns the entries of rows. In a secret room their texts are opened.
  static func entries(
    _ rows: [Row], _ room: Room, in transaction: Transaction
  ) async throws -> [Entry] {
    let texts = try await texts(rows, room, contentID: 12, in: transaction)
    return try zip(rows, texts).map { try entry($0, room, text: $1) }
  }

  /// Returns the texts of rows. In a secret room those of messages are opened; those whose key was destroyed are nil.
  /// `contentID` is the column with the id of the message that the text belongs to.
  static func texts(
    _ rows: [Row], _ room: Room, contentID: Int, in transaction: Transaction
  ) async throws -> [String?] {
    let stored = try rows.map { try $0.optional(9, $0.text) }
    guard room.kind == .secret else { return stored }
    let ids: [MessageID] = try rows.map { try $0.id(contentID) }
    let keys = try await SecretKeyStore.keys(of: Array(Set(ids)), in: transaction)
    return try rows.indices.map { index in
      // Events say nothing that is secret, and are not sealed.
      if try rows[index].integer(2) == EntryCoding.Code.event { return stored[index] }
      let id = ids[index]
      return stored[index].flatMap { keys[id]?.open($0, of: id) }
    }
  }

  static func entry(_ row: Row, _ room: Room, text: String?) throws -> Entry {
    let seq = try row.integer(0)
    let from = try row.userOrNobody(3)
    return Entry(
      roomID: room.id, seq: seq, id: try row.id(1), from: from, to: room.recipient(of: from),
      channelID: room.entryChannelID, ts: try row.time(4), clientID: try row.optional(5, row.text),
      ordinal: seq - (try row.integer(7)),
      body: EntryCoding.body(
        EntryCoding.Stored(
          code: try row.integer(2), target: try row.optional(6, row.integer),
          content: text, extras: try row.optional(10, row.text),
          isErased: !row.isNull(8), isEdited: !row.isNull(11))))
  }
}
