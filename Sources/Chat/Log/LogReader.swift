package import Basics
package import Database
package import Events
internal import Synchronization

/// A room as live delivery needs it, at one moment.
package struct LoadedRoom: Sendable {
  package let room: Room
  /// 0 for an empty log.
  package let lastSeq: Int64
  /// The people who have muted the room, each with the time until which that counts.
  package let muted: [UserID: Timestamp]

  package init(room: Room, lastSeq: Int64, muted: [UserID: Timestamp] = [:]) {
    self.room = room
    self.lastSeq = lastSeq
    self.muted = muted
  }
}

/// Reads the log for sockets: ranges of entries, and heads. The caller is responsible for checking access.
///
/// Nothing is ever left out. An entry of an unknown kind, one whose content is lost, and one whose row is missing are
/// returned as `unknown`, so that the reader gets every seq.
package struct LogReader: Sendable {
  private let database: any SQLDatabase
  private let directory: RoomDirectory
  private let unknown: UnknownEntries

  package init(database: any SQLDatabase, directory: RoomDirectory, unknown: UnknownEntries) {
    self.database = database
    self.directory = directory
    self.unknown = unknown
  }

  /// Reads entries from `after` + 1 on, without a gap, up to `through` or the end of the log. Stops earlier after
  /// `limit` entries, or after the entry with which their contents reach `bytes`.
  package func entries(
    in room: Room, after: Int64, through: Int64, limit: Int64 = LogReader.readEntries,
    bytes: Int = LogReader.readBytes
  ) async throws -> [Entry] {
    let count = min(through - after, limit)
    guard count > 0 else { return [] }
    let (entries, end) = try await database.read { transaction in
      let head = try await RoomStore.lastSeqs([room.id], in: transaction)[room.id] ?? 0
      let rows = try await transaction.query(
        EntryRows.sql,
        [
          .room(room.id), .integer(after), .integer(after + count + 1), .integer(count),
          .integer(Int64(bytes)),
        ], stoppingAfter: bytes)
      let entries = try await EntryRows.entries(rows, room, in: transaction)
      let end = min(after + count, head)
      guard let last = entries.last?.seq, last < end else { return (entries, end) }
      // The result was either cut by its size, or what follows is lost.
      let isCut =
        try await transaction.first(
          "SELECT seq FROM entries WHERE room_id = $1 AND seq > $2 AND seq <= $3 LIMIT 1",
          [.room(room.id), .integer(last), .integer(end)]) != nil
      return (entries, isCut ? last : end)
    }
    let whole = Self.fill(entries, in: room, after: after, through: end)
    unknown.report(whole)
    return whole
  }

  /// The number of bytes at which one read stops. The entry that reaches it is still included.
  package static let readBytes = 512 * 1024
  package static let readEntries: Int64 = 1024

  /// Adds `unknown` entries for missing seqs.
  private static func fill(
    _ entries: [Entry], in room: Room, after: Int64, through: Int64
  ) -> [Entry] {
    guard Int64(entries.count) < through - after else { return entries }
    var whole: [Entry] = []
    var next = entries.makeIterator()
    var entry = next.next()
    var ts = entry?.ts ?? room.createdAt
    var ordinal = entry.map { $0.ordinal - 1 } ?? 0
    for seq in (after + 1)...max(after + 1, through) where seq <= through {
      if let known = entry, known.seq == seq {
        whole.append(known)
        (ts, ordinal) = (known.ts, known.ordinal)
        entry = next.next()
      } else {
        whole.append(
          Entry(
            roomID: room.id, seq: seq, id: MessageID(.zero), from: nil,
            channelID: room.entryChannelID, ts: ts, clientID: nil, ordinal: max(0, ordinal),
            body: EntryCoding.lost))
      }
    }
    return whole
  }

  /// Reads rooms with their heads in one snapshot. Rooms that do not exist are left out.
  package func rooms(_ ids: [RoomID]) async throws -> [LoadedRoom] {
    try await database.read { transaction in
      let rooms = try await directory.read(ids, in: transaction)
      let lastSeqs = try await RoomStore.lastSeqs(ids, in: transaction)
      let muted = try await MarkStore.muted(in: ids, transaction)
      return ids.compactMap { id in
        guard let room = rooms[id], let lastSeq = lastSeqs[id] else { return nil }
        return LoadedRoom(room: room, lastSeq: lastSeq, muted: muted[id] ?? [:])
      }
    }
  }

  /// Reads the heads of rooms, without their rules.
  package func lastSeqs(_ ids: [RoomID]) async throws -> [RoomID: Int64] {
    try await database.read { try await RoomStore.lastSeqs(ids, in: $0) }
  }
}
