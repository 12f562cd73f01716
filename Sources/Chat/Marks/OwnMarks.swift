internal import Basics
package import Database
package import Events
internal import Synchronization

/// Moves the marks of people who send messages, and notes in which rooms they have written.
///
/// In the commit of a message that would cost a write for each. Instead the marks follow the log, a moment later and in
/// bulk: `room_heads.marked_seq` says up to which seq of a room that is done. Readers that must be exact look at the few
/// entries behind it (`MarkStore`). A crash loses nothing, because the rooms that are behind are found at the start.
package final class OwnMarks: Sendable {
  private let database: any SQLDatabase
  /// The rooms in which messages were written on this node that are not taken over yet.
  private let changed = Mutex<Set<RoomID>>([])

  /// How often `follow` should be called, in milliseconds.
  package static let everyMilliseconds = 1000
  /// The most rooms, and of each the most entries, per transaction.
  private static let roomsPerSlice = 100
  private static let entriesPerSlice: Int64 = 2000

  /// Must be made before the first event is published.
  package init(database: any SQLDatabase, events: EventStream) {
    self.database = database
    events.listen { [weak self] in self?.note($0) }
  }

  private func note(_ events: [Event]) {
    var rooms: Set<RoomID> = []
    for case .entry(let entry, _?) in events where entry.body.isMessage {
      rooms.insert(entry.roomID)
    }
    if !rooms.isEmpty { changed.withLock { $0.formUnion(rooms) } }
  }

  /// Finds the rooms that are behind, because a node ended before it had taken them over.
  package func load() async throws {
    let rooms = try await database.read { transaction in
      try await transaction.query(
        "SELECT room_id FROM room_heads WHERE marked_seq < message_seq"
      ).map { try $0.room(0) }
    }
    changed.withLock { $0.formUnion(rooms) }
  }

  /// Takes over what was written since the last call. What fails is tried again in the next call.
  package func follow() async throws {
    while true {
      let rooms = changed.withLock { changed in
        let slice = changed.prefix(Self.roomsPerSlice)
        changed.subtract(slice)
        return slice
      }
      if rooms.isEmpty { return }
      do {
        let unfinished = try await database.write { transaction in
          try await Self.follow(rooms.sorted(), in: transaction)
        }
        changed.withLock { $0.formUnion(unfinished) }
      } catch {
        changed.withLock { $0.formUnion(rooms) }
        throw error
      }
    }
  }

  /// Returns the rooms of which more is left.
  private static func follow(
    _ rooms: [RoomID], in transaction: Transaction
  ) async throws -> [RoomID] {
    try await RoomStore.lock(rooms, in: transaction)
    var statements: [Statement] = []
    var unfinished: [RoomID] = []
    for row in try await transaction.query(behindSQL, [.rooms(rooms)]) {
      let (room, marked, head) = (try row.room(0), try row.integer(1), try row.integer(2))
      let end = min(head, marked + entriesPerSlice)
      if end < head { unfinished.append(room) }
      let range: [SQLValue] = [.room(room), .integer(marked), .integer(end)]
      statements += [
        Statement(marksSQL, range), Statement(readsSQL, range), Statement(actsSQL, range),
        Statement(
          "UPDATE room_heads SET marked_seq = $2 WHERE room_id = $1", [.room(room), .integer(end)]),
      ]
    }
    _ = try await transaction.pipeline(statements)
    return unfinished
  }

  /// In the order of ids, so that two nodes never deadlock.
  private static let behindSQL = SQL(
    sqlite: """
      SELECT room_id, marked_seq, last_seq FROM room_heads
      WHERE room_id IN (SELECT value FROM json_each($1)) AND marked_seq < last_seq ORDER BY room_id
      """,
    postgres: """
      SELECT room_id, marked_seq, last_seq FROM room_heads
      WHERE room_id IN (SELECT value::bigint FROM json_array_elements_text($1::json) AS list (value))
        AND marked_seq < last_seq ORDER BY room_id
      """)

  // `$1` is the room, `$2` the seq after which the range begins, and `$3` its last seq.

  private static let marksSQL: SQL = """
    INSERT INTO room_marks (user_id, room_id, seq, ordinal)
      SELECT e.sender, e.room_id, e.seq, e.seq - e.non_messages
      FROM (SELECT sender, max(seq) AS seq FROM entries
          WHERE room_id = $1 AND seq > $2 AND seq <= $3 AND type < 16 GROUP BY sender) last
        JOIN entries e ON e.room_id = $1 AND e.seq = last.seq
      WHERE true ORDER BY e.sender
    ON CONFLICT (user_id, room_id) DO UPDATE SET seq = excluded.seq, ordinal = excluded.ordinal
      WHERE room_marks.seq < excluded.seq
    """

  /// Of messages that one person sends in a row only the first and the last are noted: nobody else's come between them.
  private static let readsSQL: SQL = """
    INSERT INTO room_reads (room_id, user_id, seq, ts)
      SELECT $1, m.sender, m.seq, m.ts
      FROM (SELECT sender, seq, ts, lag(sender) OVER (ORDER BY seq) AS sender_before,
          lead(sender) OVER (ORDER BY seq) AS sender_behind FROM entries
        WHERE room_id = $1 AND seq > $2 AND seq <= $3 AND type < 16) m
      WHERE m.sender_before IS NULL OR m.sender_before <> m.sender
        OR m.sender_behind IS NULL OR m.sender_behind <> m.sender
    ON CONFLICT DO NOTHING
    """

  private static let actsSQL: SQL = """
    INSERT INTO room_acts (user_id, room_id)
      SELECT DISTINCT sender, room_id FROM entries
      WHERE room_id = $1 AND seq > $2 AND seq <= $3 AND type < 16 ORDER BY sender
    ON CONFLICT DO NOTHING
    """
}
