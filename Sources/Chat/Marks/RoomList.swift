package import Access
internal import Accounts
package import Basics
package import Database
package import Events

/// A person's rooms, with what is unread in each.
package final class RoomList: Sendable {
  private let database: any SQLDatabase
  private let rooms: Rooms
  private let history: MessageHistory
  private let events: EventStream
  /// The number of rooms whose unread messages are counted by one statement.
  private static let roomsPerStatement = 500

  package init(
    database: any SQLDatabase, rooms: Rooms, history: MessageHistory, events: EventStream
  ) {
    self.database = database
    self.rooms = rooms
    self.history = history
    self.events = events
  }

  /// A room of a person.
  package struct Item: Sendable {
    package let view: Rooms.View
    package let state: RoomState
    /// Nil if there is none.
    package let lastMessage: MessageView?
    /// When something was last said in the room, or when it was made.
    package let activeAt: Timestamp
  }

  /// What to list.
  package struct Selection: Sendable {
    /// Only rooms of this kind; nil means all.
    package var kind: RoomKind?
    /// Only rooms with unread messages.
    package var isUnreadOnly: Bool
    /// The last room of the page before.
    package var behind: (activeAt: Timestamp, room: RoomID)?
    package var limit: Int
  }

  /// Returns the rooms that the caller may read, those with the latest activity first; one more than the limit if there
  /// are more. Where the caller has no mark yet, it is set to the head.
  package func list(for caller: Caller, _ selection: Selection) async throws -> [Item] {
    var lines = try await rooms.readableRooms(of: caller)
    if let kind = selection.kind { lines = lines.filter { $0.kind == kind } }
    lines.sort { ($0.activeAt, $0.room) > ($1.activeAt, $1.room) }
    try await start(caller.userID, in: lines.map(\.room))
    if let behind = selection.behind {
      lines.removeAll { ($0.activeAt, $0.room) >= (behind.activeAt, behind.room) }
    }
    let found = lines
    return try await database.read { transaction in
      var states: [RoomID: RoomState] = [:]
      var chosen: [ListedRoom] = []
      var rest = found[...]
      let step = selection.isUnreadOnly ? Self.roomsPerStatement : selection.limit + 1
      while chosen.count <= selection.limit, !rest.isEmpty {
        let part = rest.prefix(step)
        rest = rest.dropFirst(step)
        let counted = try await MarkStore.states(
          of: caller.userID, in: part.map(\.room), transaction)
        states.merge(counted) { $1 }
        chosen += part.filter { line in
          guard let state = counted[line.room] else { return false }
          return !selection.isUnreadOnly || state.unread > 0
        }
      }
      return try await self.items(
        Array(chosen.prefix(selection.limit + 1)), states, for: caller, transaction)
    }
  }

  private func items(
    _ lines: [ListedRoom], _ states: [RoomID: RoomState], for caller: Caller,
    _ transaction: Transaction
  ) async throws -> [Item] {
    let known = try await rooms.directory.read(lines.map(\.room), in: transaction)
    let views = try await Rooms.views(
      lines.compactMap { known[$0.room] }, for: caller, in: transaction)
    let messages = try await history.latest(
      in: views.map { ($0.room, $0.messageSeq) }, for: caller, transaction)
    let times = Dictionary(lines.map { ($0.room, $0.activeAt) }) { $1 }
    return views.compactMap { view in
      // Memory may be older than the room as it is now.
      guard let state = states[view.room.id], view.standing.permissions.contains(.read) else {
        return nil
      }
      return Item(
        view: view, state: state, lastMessage: messages[view.room.id],
        activeAt: times[view.room.id] ?? view.room.createdAt)
    }
  }

  /// Returns what the caller has read of a room. Throws `room_not_found` and `forbidden`.
  package func state(in id: RoomID, of caller: Caller) async throws -> RoomState {
    try await start(caller, in: id)
    return try await database.read { transaction in
      _ = try self.rooms.require(
        .read, caller, try await self.rooms.directory.read(id, in: transaction))
      return try await self.state(in: id, of: caller.userID, transaction)
    }
  }

  private func state(
    in id: RoomID, of user: UserID, _ transaction: Transaction
  ) async throws -> RoomState {
    guard let state = try await MarkStore.states(of: user, in: [id], transaction)[id] else {
      throw AppError(.roomNotFound)
    }
    return state
  }

  /// Mutes a room for the caller or not, for good or until a time. Returns the state after that.
  package func mute(
    _ id: RoomID, isMuted: Bool, until: Timestamp?, by caller: Caller
  ) async throws -> RoomState {
    try await start(caller, in: id)
    return try await database.write { transaction in
      _ = try self.rooms.require(
        .read, caller, try await self.rooms.directory.read(id, in: transaction))
      try await MarkStore.mute(
        caller.userID, in: id, isMuted: isMuted, until: isMuted ? until : nil, transaction)
      let signal = MuteSignal(
        room: id, user: caller.userID, until: isMuted ? until ?? .latest : nil
      ).signal
      transaction.afterCommit { self.events.publish([.signal(signal)]) }
      return try await self.state(in: id, of: caller.userID, transaction)
    }
  }

  // MARK: Where marks begin

  /// Notes that the caller has opened a room: where there is no mark, it is set to the head. Does nothing for somebody
  /// who may not read the room.
  package func start(_ caller: Caller, in id: RoomID) async throws {
    let isMissing = try await database.read { transaction in
      guard
        try await MarkStore.marked(caller.userID, among: [id], in: transaction).isEmpty,
        let room = try await self.rooms.directory.read(id, in: transaction)
      else { return false }
      return RuleEngine.standing(of: caller, in: room).permissions.contains(.read)
    }
    guard isMissing else { return }
    try await database.write {
      try await MarkStore.startWhereMissing(caller.userID, in: [id], $0)
    }
  }

  /// The same for rooms that the user may read.
  private func start(_ user: UserID, in rooms: [RoomID]) async throws {
    let known = try await database.read { try await MarkStore.marked(user, among: rooms, in: $0) }
    let missing = rooms.filter { !known.contains($0) }
    if missing.isEmpty { return }
    try await database.write { try await MarkStore.startWhereMissing(user, in: missing, $0) }
  }

  // MARK: Who has seen a message

  /// A person who has seen a message, and when.
  package struct Reader: Sendable {
    package let userID: UserID
    package let seenAt: Timestamp
  }

  /// Returns who has seen a message, latest first, without its author and without those who hide what they read; at most
  /// `limit`, behind the place of the page before. Throws `room_not_found`, `forbidden` and `message_not_found`.
  package func readers(
    of seq: Int64, in id: RoomID, as caller: Caller, behind: (seenAt: Timestamp, user: UserID)?,
    limit: Int
  ) async throws -> [Reader] {
    try await database.read { transaction in
      let message = try await self.history.message(seq, in: id, as: caller, transaction)
      var readers = try await MarkStore.readers(of: seq, in: id, transaction)
      if let author = message.entry.from { readers[author] = nil }
      for user in try await People.hidingWhatTheyRead(among: Array(readers.keys), in: transaction) {
        readers[user] = nil
      }
      return Array(
        readers.lazy.filter { user, time in
          behind.map { (time, user.uuid) < ($0.seenAt, $0.user.uuid) } ?? true
        }.sorted { ($0.value, $0.key.uuid) > ($1.value, $1.key.uuid) }
          .prefix(limit).map { Reader(userID: $0.key, seenAt: $0.value) })
    }
  }
}
