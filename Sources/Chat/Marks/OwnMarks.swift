internal import Basics
package import Database
package import Events
internal import Synchronization

/// Moves the marks of people who send messages, and notes in which rooms they have written.
///
/// In the commit of a message that would cost a write for each. Instead the marks follow the log, a moment later and in
/// bulk: `room_heads.marked_seq` says up to which seq of a room that is done. Readers that must be exact look at the few
/// entries behind it (`MarkStore`). A crash loses nothing, because the rooms that are behind are found at the start.
///
/// Who has written what is known from the events of the log. Only where this node has not seen all entries of a room is
/// the log read.
///
/// Of what somebody wrote in a room between two calls of `follow` only the first and the last message are noted as reads.
/// So of a message between these it is known to the second when its reader, who was writing, has read it.
package final class OwnMarks: Sendable {
  private let database: any SQLDatabase
  private let recent = Mutex(Recent())

  /// How often `follow` should be called, in milliseconds.
  package static let everyMilliseconds = 1000
  /// What one transaction takes at most. It must not keep the messages waiting that are written meanwhile.
  private static let sendersPerWrite = 50
  private static let roomsPerWrite = 25
  /// The most entries of a room that are read from the log in one transaction.
  private static let entriesPerRead: Int64 = 500

  /// Must be made before the first event is published.
  package init(database: any SQLDatabase, events: EventStream) {
    self.database = database
    events.listen { [weak self] events in self?.recent.withLock { $0.take(events) } }
  }

  /// Finds the rooms that are behind, because a node ended before it had taken them over.
  package func load() async throws {
    let rooms = try await database.read { transaction in
      try await transaction.query(
        "SELECT room_id FROM room_heads WHERE marked_seq < message_seq"
      ).map { try $0.room(0) }
    }
    recent.withLock { $0.toRead.formUnion(rooms) }
  }

  /// Takes over what was written since the last call. What fails is tried again in the next call.
  package func follow() async throws {
    while true {
      // Removed before it is read: what is written meanwhile is seen again.
      let (part, toRead) = recent.withLock {
        (
          $0.removeSome(senders: Self.sendersPerWrite, rooms: Self.roomsPerWrite),
          $0.toRead.popFirst()
        )
      }
      if part.isEmpty, toRead == nil { return }
      do {
        let missed = try await database.write { try await Self.write(part, in: $0) }
        recent.withLock { $0.toRead.formUnion(missed) }
        guard let toRead else { continue }
        let isDone = try await database.write { try await Self.readLog(of: toRead, in: $0) }
        if !isDone { recent.withLock { _ = $0.toRead.insert(toRead) } }
      } catch {
        recent.withLock {
          $0.toRead.formUnion(part.keys)
          if let toRead { $0.toRead.insert(toRead) }
        }
        throw error
      }
    }
  }

  // MARK: What was written recently

  /// The first and the last message of one person among others.
  private struct Span: Sendable {
    let first: (seq: Int64, ts: Timestamp)
    var last: (seq: Int64, ts: Timestamp, ordinal: Int64)

    init(_ entry: Entry) {
      first = (entry.seq, entry.ts)
      last = (entry.seq, entry.ts, entry.ordinal)
    }
  }

  /// Entries of one room without a gap.
  private struct Stretch: Sendable {
    /// The seq before the first one.
    let from: Int64
    /// The last seq.
    var to: Int64
    var senders: [UserID: Span] = [:]

    init(before entry: Entry) {
      from = entry.seq - 1
      to = from
    }

    /// Returns false if an entry is missing between the last one and this.
    mutating func take(_ entry: Entry) -> Bool {
      guard entry.seq == to + 1 else { return entry.seq <= to }
      to = entry.seq
      guard entry.body.isMessage, let sender = entry.from else { return true }
      senders[sender, default: Span(entry)].last = (entry.seq, entry.ts, entry.ordinal)
      return true
    }
  }

  /// What this node has seen of the log and not taken over.
  private struct Recent {
    private var stretches: [RoomID: Stretch] = [:]
    /// The rooms with messages among their entries.
    private var withSenders: Set<RoomID> = []
    private var senderCount = 0
    /// The rooms whose log must be read.
    var toRead: Set<RoomID> = []

    /// Beyond these bounds the log is read later.
    private static let maximumSenders = 50_000
    private static let maximumRooms = 50_000

    mutating func take(_ events: [Event]) {
      for case .entry(let entry, _) in events { take(entry) }
    }

    private mutating func take(_ entry: Entry) {
      let room = entry.roomID
      // Read later, so there is no need to know it.
      if toRead.contains(room) { return }
      let before = stretches[room]?.senders.count ?? 0
      guard stretches[room, default: Stretch(before: entry)].take(entry) else {
        drop(room)
        if entry.body.isMessage || before > 0 { toRead.insert(room) }
        return
      }
      let count = stretches[room]?.senders.count ?? 0
      if count > 0, before == 0 { withSenders.insert(room) }
      senderCount += count - before
      if senderCount > Self.maximumSenders {
        drop(room)
        toRead.insert(room)
      } else if stretches.count > Self.maximumRooms, count == 0 {
        stretches[room] = nil
      }
    }

    private mutating func drop(_ room: RoomID) {
      senderCount -= stretches.removeValue(forKey: room)?.senders.count ?? 0
      withSenders.remove(room)
    }

    /// Removes stretches with messages, about so many as one transaction takes.
    mutating func removeSome(senders: Int, rooms: Int) -> [RoomID: Stretch] {
      var some: [RoomID: Stretch] = [:]
      var count = 0
      while count < senders, some.count < rooms, let room = withSenders.first {
        let stretch = stretches[room]
        drop(room)
        some[room] = stretch
        count += stretch?.senders.count ?? 0
      }
      return some
    }
  }

  // MARK: Writing

  /// Writes what is known of these rooms. Returns those of which it is not enough.
  private static func write(
    _ part: [RoomID: Stretch], in transaction: Transaction
  ) async throws -> [RoomID] {
    if part.isEmpty { return [] }
    try await RoomStore.lock(Array(part.keys), in: transaction)
    var statements: [Statement] = []
    var missed: [RoomID] = []
    for row in try await transaction.query(behindSQL, [.rooms(Array(part.keys))]) {
      let (room, marked, head) = (try row.room(0), try row.integer(1), try row.integer(2))
      guard let stretch = part[room], stretch.to > marked else { continue }
      guard stretch.from <= marked, stretch.to <= head else {
        missed.append(room)
        continue
      }
      statements += Self.statements(
        stretch.senders.filter { $0.value.last.seq > marked }, room, marked)
      statements.append(advance(room, to: stretch.to))
    }
    _ = try await transaction.pipeline(statements)
    return missed
  }

  /// The statements that take over what people have written in a room that is taken over up to `marked`.
  private static func statements(
    _ senders: [UserID: Span], _ room: RoomID, _ marked: Int64
  ) -> [Statement] {
    var statements: [Statement] = []
    // In the order of ids, so that two nodes never deadlock.
    for (sender, span) in senders.sorted(by: { $0.key.uuid < $1.key.uuid }) {
      if span.first.seq > marked, span.first.seq < span.last.seq {
        statements.append(
          MarkStore.note(sender, in: room, read: span.first.seq, at: span.first.ts))
      }
      statements += [
        MarkStore.note(sender, in: room, read: span.last.seq, at: span.last.ts),
        MarkStore.move(sender, in: room, to: span.last.seq, ordinal: span.last.ordinal),
        Statement(actSQL, [.id(sender), .room(room)]),
      ]
    }
    return statements
  }

  private static func advance(_ room: RoomID, to seq: Int64) -> Statement {
    Statement(
      "UPDATE room_heads SET marked_seq = $2 WHERE room_id = $1", [.room(room), .integer(seq)])
  }

  /// Takes over a part of a room's log that this node has not seen. Returns whether that was all.
  private static func readLog(of room: RoomID, in transaction: Transaction) async throws -> Bool {
    try await RoomStore.lock([room], in: transaction)
    guard let row = try await transaction.query(behindSQL, [.rooms([room])]).first else {
      return true
    }
    let (marked, head) = (try row.integer(1), try row.integer(2))
    let end = min(head, marked + entriesPerRead)
    let range: [SQLValue] = [.room(room), .integer(marked), .integer(end)]
    _ = try await transaction.pipeline([
      Statement(marksSQL, range), Statement(readsSQL, range), Statement(actsSQL, range),
      advance(room, to: end),
    ])
    return end == head
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
      WHERE room_marks.seq < excluded.seq AND excluded.seq > -1 - room_marks.seq
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

  // Whose mark has ended is out of the room, and what they wrote before makes nobody known any more.

  private static let actsSQL: SQL = """
    INSERT INTO room_acts (user_id, room_id)
      SELECT DISTINCT e.sender, e.room_id FROM entries e
      WHERE e.room_id = $1 AND e.seq > $2 AND e.seq <= $3 AND e.type < 16 AND NOT EXISTS (
        SELECT 1 FROM room_marks m
        WHERE m.user_id = e.sender AND m.room_id = e.room_id AND m.seq < 0)
      ORDER BY e.sender
    ON CONFLICT DO NOTHING
    """

  /// The same for one person.
  private static let actSQL: SQL = """
    INSERT INTO room_acts (user_id, room_id)
      SELECT user_id, room_id FROM room_marks WHERE user_id = $1 AND room_id = $2 AND seq >= 0
    ON CONFLICT DO NOTHING
    """
}
