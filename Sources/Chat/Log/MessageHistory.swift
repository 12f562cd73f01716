package import Access
package import Basics
package import Database
package import Events

/// Reads pages of a room's log, with entries of every kind.
package struct MessageHistory: Sendable {
  private let database: any SQLDatabase
  private let directory: RoomDirectory
  private let unknown: UnknownEntries

  package init(database: any SQLDatabase, directory: RoomDirectory, unknown: UnknownEntries) {
    self.database = database
    self.directory = directory
    self.unknown = unknown
  }

  /// The entries of a room to read, and their order.
  package struct Selection: Sendable {
    /// Exclusive bounds; nil means no bound.
    package var before: Int64?
    package var after: Int64?
    /// The first moment that is included, and the first that is excluded again.
    package var from: Timestamp?
    package var to: Timestamp?
    /// Whether the oldest entries come first.
    package var isAscending: Bool
    package var limit: Int
  }

  /// A part of a room's log.
  package struct Page: Sendable {
    package let entries: [Entry]
    /// Whether there are more entries after the last.
    package let hasMore: Bool
  }

  /// The number of content bytes at which the reading of a page stops. Each message appears twice, as `data` and as
  /// `content`, so more could not be sent.
  private static let pageBytes = 512 * 1024

  /// Reads entries of a room that the caller may read. Throws `room_not_found` or `forbidden`.
  package func messages(
    in id: RoomID, as caller: Caller, _ selection: Selection
  ) async throws -> Page {
    let page = try await database.read { transaction in
      guard let room = try await directory.read(id, in: transaction) else {
        throw AppError(.roomNotFound)
      }
      let standing = RuleEngine.standing(of: caller, in: room)
      guard standing.isMember else { throw AppError(.roomNotFound) }
      guard standing.permissions.contains(.read) else { throw AppError(.forbidden) }
      let end = (try await RoomStore.lastSeqs([id], in: transaction)[id] ?? 0) + 1
      var low = selection.after ?? 0
      var high = min(selection.before ?? end, end)
      // Times and seqs have the same order within a room, so a bound in time can be turned into a seq.
      if let from = selection.from {
        low = max(low, try await Self.firstSeq(id, at: from, end: end, in: transaction) - 1)
      }
      if let to = selection.to {
        high = min(high, try await Self.firstSeq(id, at: to, end: end, in: transaction))
      }
      let rows = try await transaction.query(
        selection.isAscending ? EntryRows.ascendingSQL : EntryRows.descendingSQL,
        [
          .room(id), .integer(low), .integer(high), .integer(Int64(selection.limit)),
          .integer(Int64(Self.pageBytes)),
        ], stoppingAfter: Self.pageBytes)
      let entries = try rows.map { try EntryRows.entry($0, room) }
      // Seqs have no gaps, so the last one tells whether there are more.
      let hasMore =
        entries.last.map { selection.isAscending ? $0.seq < high - 1 : $0.seq > low + 1 } ?? false
      return Page(entries: entries, hasMore: hasMore)
    }
    unknown.report(page.entries)
    return page
  }

  /// Returns the lowest seq whose entry is not before `time`, or `end` if all entries are before it.
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
}
