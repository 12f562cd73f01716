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
        e.erased_at, c.data, coalesce(m.extras, e.extras), e.text_seq
      FROM entries e
        LEFT JOIN entries m ON m.room_id = e.room_id
          AND m.seq = CASE e.type WHEN 16 THEN e.target_seq END AND m.text_seq = e.seq
          AND m.erased_at IS NULL
        LEFT JOIN contents c ON c.id = coalesce(m.id, e.id)
      WHERE e.room_id = $1 AND e.seq > $2 AND e.seq < $3 ORDER BY e.seq LIMIT $4
      """,
    postgres: """
      SELECT seq, id, type, sender, ts, client_id, target_seq, non_messages, erased_at, data, extras,
        text_seq
      FROM (
        SELECT e.seq, e.id, e.type, e.sender, e.ts, e.client_id, e.target_seq, e.non_messages,
          e.erased_at, c.data, coalesce(m.extras, e.extras) AS extras, e.text_seq,
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

  static func entry(_ row: Row, _ room: Room) throws -> Entry {
    let seq = try row.integer(0)
    let from = try row.userOrNobody(3)
    return Entry(
      roomID: room.id, seq: seq, id: try row.id(1), from: from, to: room.recipient(of: from),
      channelID: room.entryChannelID, ts: try row.time(4), clientID: try row.optional(5, row.text),
      ordinal: seq - (try row.integer(7)),
      body: EntryCoding.body(
        EntryCoding.Stored(
          code: try row.integer(2), target: try row.optional(6, row.integer),
          content: try row.optional(9, row.text), extras: try row.optional(10, row.text),
          isErased: !row.isNull(8), isEdited: !row.isNull(11))))
  }
}
