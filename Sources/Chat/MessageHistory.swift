package import Access
package import Basics
package import Database
package import Events

/// Reads the log: pages of messages for people, runs of entries for sockets that resume.
package struct MessageHistory: Sendable {
  private let database: any SQLDatabase

  package init(database: any SQLDatabase) { self.database = database }

  /// Which messages of a room, and in which order.
  package struct Selection: Sendable {
    /// Exclusive seq bounds; nil is open.
    package var before: Int64?
    package var after: Int64?
    /// First moment that counts, and the first that does not any more.
    package var from: Timestamp?
    package var to: Timestamp?
    /// Oldest first; else newest first.
    package var isAscending: Bool
    package var limit: Int
  }

  private static let descendingSQL: SQL = """
    SELECT e.seq, e.id, e.type, e.sender, e.ts, e.client_id, c.data
    FROM entries e JOIN contents c ON c.id = e.id
    WHERE e.room_id = $1 AND e.seq > $2 AND e.seq < $3 ORDER BY e.seq DESC LIMIT $4
    """

  private static let ascendingSQL: SQL = """
    SELECT e.seq, e.id, e.type, e.sender, e.ts, e.client_id, c.data
    FROM entries e JOIN contents c ON c.id = e.id
    WHERE e.room_id = $1 AND e.seq > $2 AND e.seq < $3 ORDER BY e.seq LIMIT $4
    """

  /// Messages of a room that the caller may read. Gives one more than the limit where there are more.
  /// Throws `room_not_found` or `forbidden`.
  package func messages(
    in id: RoomID, as caller: Caller, _ selection: Selection
  ) async throws -> [Entry] {
    try await database.read { transaction in
      guard let room = try await RoomStore.room(id, in: transaction) else {
        throw AppError(.roomNotFound)
      }
      let standing = RuleEngine.standing(of: caller, in: room)
      guard standing.isMember else { throw AppError(.roomNotFound) }
      guard standing.permissions.contains(.read) else { throw AppError(.forbidden) }
      let end = (try await RoomStore.lastSeq(id, in: transaction) ?? 0) + 1
      var low = selection.after ?? 0
      var high = min(selection.before ?? end, end)
      // Time and seq agree within a room, so a time bound is a seq bound.
      if let from = selection.from {
        low = max(low, try await Self.firstSeq(id, at: from, end: end, in: transaction) - 1)
      }
      if let to = selection.to {
        high = min(high, try await Self.firstSeq(id, at: to, end: end, in: transaction))
      }
      return try await transaction.query(
        selection.isAscending ? Self.ascendingSQL : Self.descendingSQL,
        [.room(id), .integer(low), .integer(high), .integer(Int64(selection.limit + 1))]
      ).map { try Self.entry($0, room) }
    }
  }

  /// The lowest seq whose entry is not before `time`; `end` where all are.
  private static func firstSeq(
    _ id: RoomID, at time: Timestamp, end: Int64, in transaction: Transaction
  ) async throws -> Int64 {
    var low: Int64 = 1
    var high = end
    while low < high {
      let middle = low + (high - low) / 2
      let row = try await transaction.first(
        "SELECT ts FROM entries WHERE room_id = $1 AND seq = $2", [.room(id), .integer(middle)])
      if let row, try row.time(0) < time { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// Entries `after` < seq <= `through` of a room, in order: what a live connection missed. Access is
  /// the business of whoever passes them on.
  package func entries(
    in room: Room, after: Int64, through: Int64
  ) async throws -> [Entry] {
    try await database.read { transaction in
      try await transaction.query(
        Self.ascendingSQL,
        [.room(room.id), .integer(after), .integer(through + 1), .integer(through - after)]
      ).map { try Self.entry($0, room) }
    }
  }

  private static func entry(_ row: Row, _ room: Room) throws -> Entry {
    guard let type = MessageType(code: try row.integer(2)) else {
      throw DatabaseError(kind: .other, message: "unknown type of message")
    }
    return Entry(
      roomID: room.id, seq: try row.integer(0), id: try row.id(1), type: type, from: try row.id(3),
      channelID: room.channelID, data: try row.text(6), ts: try row.time(4),
      clientID: try row.optional(5, row.text))
  }

  /// Rooms with their heads in one snapshot; rooms that do not exist are left out.
  package func heads(_ ids: [RoomID]) async throws -> [(room: Room, lastSeq: Int64)] {
    try await database.read { transaction in
      var heads: [(Room, Int64)] = []
      for id in ids {
        guard let room = try await RoomStore.room(id, in: transaction),
          let lastSeq = try await RoomStore.lastSeq(id, in: transaction)
        else { continue }
        heads.append((room, lastSeq))
      }
      return heads
    }
  }

  /// Where the logs of rooms end, without their rules.
  package func lastSeqs(_ ids: [RoomID]) async throws -> [RoomID: Int64] {
    try await database.read { transaction in
      var result: [RoomID: Int64] = [:]
      let answers = try await transaction.pipeline(
        ids.map { Statement("SELECT last_seq FROM room_heads WHERE room_id = $1", [.room($0)]) })
      for (id, answer) in zip(ids, answers) {
        if let row = answer.rows.first { result[id] = try row.integer(0) }
      }
      return result
    }
  }

  /// Rooms whose access changed at `since` or later, with their access versions.
  package func accessChanges(since: Timestamp) async throws -> [(RoomID, Int64)] {
    try await database.read { try await RoomStore.changes(since: since, in: $0) }
  }
}
