package import Access
package import Basics
package import Database
package import EventLoop
internal import Events
package import Words

/// Finds messages by their words.
package struct Search: Sendable {
  private let index: any SQLDatabase
  private let rooms: Rooms
  private let history: MessageHistory
  private let pool: ThreadPool

  /// If a caller has at most so many rooms, their words narrow the search down in the index itself.
  private static let maximumRoomWords = 20
  /// How many messages are read at a time, until a page has enough of them.
  private static let messagesPerRead = 20
  /// The bytes of texts at which the reading of a page stops.
  private static let pageBytes = 256 * 1024

  /// - `index`: the database with the index, in which the log can be read, too.
  /// - `pool`: looks for the words in texts.
  package init(
    index: any SQLDatabase, rooms: Rooms, history: MessageHistory, pool: ThreadPool
  ) {
    self.index = index
    self.rooms = rooms
    self.history = history
    self.pool = pool
  }

  /// What to find.
  package struct Selection: Sendable {
    package let pattern: SearchPattern
    /// Only messages of this room.
    package var room: RoomID?
    /// Only messages of this author.
    package var author: UserID?
    /// The first moment that is included, and the first that is excluded again.
    package var since: Timestamp?
    package var until: Timestamp?
    /// The place of the last hit of the page before.
    package var behind: Int64?
    package var limit: Int
  }

  /// A message that was found.
  package struct Hit: Sendable {
    package let message: MessageView
    package let snippet: String
    /// Where the next page goes on.
    package let place: Int64
  }

  /// Returns messages that match in their present text, newest first, in rooms that the caller may read now. Throws
  /// `room_not_found` and `forbidden` for a room that the caller may not read.
  package func messages(
    for caller: Caller, _ selection: Selection
  ) async throws -> (hits: [Hit], hasMore: Bool) {
    let readable = try await readableRooms(of: caller, selection.room)
    if readable.isEmpty { return ([], false) }
    let areFew = readable.count <= Self.maximumRoomWords
    let expression = SearchExpression(
      selection.pattern, rooms: areFew ? readable : [], author: selection.author)
    let first = selection.since.map { SearchPlace.first(at: $0) } ?? 0
    let end = selection.until.map { SearchPlace.first(at: $0) } ?? .max
    let (found, hasMore) = try await index.read { transaction in
      let hits = try await SearchStore.hits(
        expression, in: areFew ? nil : readable, first: first,
        behind: min(end, selection.behind ?? .max), limit: selection.limit + 1, transaction)
      let found = try await self.read(
        Array(hits.prefix(selection.limit)), for: caller, transaction)
      return (found, hits.count > found.count)
    }
    // On a thread, because texts may be long.
    let hits = try await pool.run(for: caller.userID) { _ in
      found.map { message, place in
        Hit(
          message: message,
          snippet: Snippet.make(of: message.entry.body.text, for: selection.pattern), place: place)
      }
    }
    return (hits, hasMore)
  }

  /// The rooms to search. What is said in secret rooms cannot be found.
  private func readableRooms(of caller: Caller, _ room: RoomID?) async throws -> [RoomID] {
    if let room {
      let found = try await index.read { try await self.rooms.directory.read(room, in: $0) }
      let (known, _) = try rooms.require(.read, caller, found)
      return known.kind == .secret ? [] : [room]
    }
    return try await rooms.readableRooms(of: caller).filter { $0.kind != .secret }.map(\.room)
      .sorted()
  }

  /// Reads the messages, or the first of them if they are large.
  private func read(
    _ hits: [SearchStore.Hit], for caller: Caller, _ transaction: Transaction
  ) async throws -> [(MessageView, place: Int64)] {
    var found: [(MessageView, place: Int64)] = []
    var bytes = 0
    var rest = hits[...]
    while !rest.isEmpty, bytes < Self.pageBytes {
      let part = rest.prefix(Self.messagesPerRead)
      rest = rest.dropFirst(part.count)
      let messages = try await history.messages(
        at: part.map { ($0.room, $0.seq) }, for: caller, transaction)
      for (hit, message) in zip(part, messages) {
        guard let message else { continue }
        bytes += message.entry.cost
        found.append((message, hit.place))
      }
    }
    return found
  }
}

extension EntryBody {
  fileprivate var text: String { if case .message(let content) = self { content.data } else { "" } }
}
