package import Access
package import Accounts
internal import Basics
package import Database

/// `rooms.json` and `messages.ndjson` of an export: the rooms that the person is in, and each message that they wrote and that
/// was not deleted, one JSON object a line, also in rooms that they have left.
package struct ChatExportPart: ExportPart {
  private let database: any SQLDatabase
  private let rooms: Rooms
  private let history: MessageHistory

  private static let roomsPerRead = 100
  private static let messagesPerRead = 20

  package init(database: any SQLDatabase, rooms: Rooms, history: MessageHistory) {
    self.database = database
    self.rooms = rooms
    self.history = history
  }

  package func export(of caller: Caller, to archive: ExportArchive) async throws {
    try await archive.begin("rooms.json")
    try await writeRooms(of: caller, to: archive)
    try await archive.begin("messages.ndjson")
    try await writeMessages(of: caller, to: archive)
  }

  private func writeRooms(of caller: Caller, to archive: ExportArchive) async throws {
    var after = RoomID(0)
    var isFirst = true
    while true {
      let found = try await rooms.list(for: caller, after: after, limit: Self.roomsPerRead)
      let page = Array(found.prefix(Self.roomsPerRead))
      let begin = isFirst ? "[" : ","
      isFirst = false
      if !page.isEmpty || begin == "[" {
        try await archive.write {
          var writer = JSONWriter()
          writer.array(of: page) { $0.value($1) }
          // The elements of one array, whose brackets are written once.
          return Array(begin.utf8) + writer.bytes.dropFirst().dropLast()
        }
      }
      guard let last = page.last, found.count > page.count else { break }
      after = last.room.id
    }
    try await archive.write { Array("]".utf8) }
  }

  private func writeMessages(of caller: Caller, to archive: ExportArchive) async throws {
    var after = RoomID(0)
    while true {
      let place = after
      let ids = try await database.read {
        try await AuthoredMessages.rooms(
          of: caller.userID, after: place, limit: Self.roomsPerRead, in: $0)
      }
      for id in ids { try await writeMessages(of: caller, in: id, to: archive) }
      guard let last = ids.last, ids.count == Self.roomsPerRead else { return }
      after = last
    }
  }

  private func writeMessages(
    of caller: Caller, in room: RoomID, to archive: ExportArchive
  ) async throws {
    var place: Int64? = 0
    while let after = place {
      let (messages, end) = try await database.read { transaction in
        let found = try await AuthoredMessages.seqs(
          of: caller.userID, in: room, after: after, limit: Self.messagesPerRead, transaction)
        let messages = try await self.history.authored(
          found.seqs.map { (room, $0) }, by: caller, transaction)
        return (messages, found.end)
      }
      // Also without messages, because it notices that the session has ended.
      try await archive.write {
        messages.reduce(into: []) { bytes, message in
          var writer = JSONWriter()
          writer.value(message, for: caller.userID)
          bytes += writer.bytes
          bytes.append(UInt8(ascii: "\n"))
        }
      }
      place = end
    }
  }
}
