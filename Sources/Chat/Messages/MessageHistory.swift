package import Access
package import Basics
package import Database
package import Events

/// A message or an event in its present state.
package struct MessageView: Sendable {
  package let entry: Entry
  package let editedAt: Timestamp?
  package let deletedAt: Timestamp?
  /// The seq of the last entry that touched the message, or its own.
  package let updatedSeq: Int64
  /// In the order in which the emoji came.
  package var reactions: [ReactionCount] = []
  /// Whether the caller may read the room that the message was forwarded from.
  package var isSourceReadable = false

  init(_ entry: Entry, editedAt: Timestamp?, deletedAt: Timestamp?, updatedSeq: Int64) {
    self.entry = entry
    self.editedAt = editedAt
    self.deletedAt = deletedAt
    self.updatedSeq = updatedSeq
  }

  /// The same without what it says, and without its reactions.
  var withoutContent: MessageView {
    guard case .message(let content) = entry.body else { return self }
    let bare = Entry(
      roomID: entry.roomID, seq: entry.seq, id: entry.id, from: entry.from, to: entry.to,
      channelID: entry.channelID, ts: entry.ts, clientID: nil, ordinal: entry.ordinal,
      body: .message(MessageContent(type: content.type, data: "")))
    return MessageView(bare, editedAt: editedAt, deletedAt: deletedAt, updatedSeq: updatedSeq)
  }

  /// A message that was just written.
  init(new entry: Entry) {
    self.init(entry, editedAt: nil, deletedAt: nil, updatedSeq: entry.seq)
  }
}

/// How many people have reacted to a message with one emoji.
package struct ReactionCount: Sendable {
  package let emoji: String
  package let people: Int64
  /// Whether the caller is one of them.
  package let isMine: Bool
}

/// One person's reaction to a message.
package struct Reaction: Sendable {
  package let emoji: String
  package let userID: UserID
  package let ts: Timestamp
  /// The entry that brought it.
  package let seq: Int64
}

/// A text that a message had before.
package struct EarlierText: Sendable {
  package let data: String
  /// When the message got this text.
  package let ts: Timestamp
  /// The entry that gave it this text.
  package let seq: Int64
}

/// Reads messages and events in their present state.
package struct MessageHistory: Sendable {
  private let database: any SQLDatabase
  private let directory: RoomDirectory
  private let unknown: UnknownEntries

  package init(database: any SQLDatabase, directory: RoomDirectory, unknown: UnknownEntries) {
    self.database = database
    self.directory = directory
    self.unknown = unknown
  }

  /// The messages of a room to read, and their order.
  package struct Selection: Sendable {
    /// Exclusive bounds; nil means no bound.
    package var before: Int64?
    package var after: Int64?
    /// The first moment that is included, and the first that is excluded again.
    package var from: Timestamp?
    package var to: Timestamp?
    /// Whether the oldest messages come first.
    package var isAscending: Bool
    package var limit: Int
  }

  /// A part of a room's messages.
  package struct Page: Sendable {
    package let messages: [MessageView]
    /// Whether there are more messages after the last.
    package let hasMore: Bool
  }

  /// The number of content bytes at which the reading of a page stops. Each message appears twice, as `data` and as
  /// `content`, so more could not be sent.
  private static let pageBytes = 512 * 1024

  // MARK: Pages

  /// Reads messages of a room that the caller may read. Throws `room_not_found` or `forbidden`.
  package func messages(
    in id: RoomID, as caller: Caller, _ selection: Selection
  ) async throws -> Page {
    let page = try await database.read { transaction in
      let room = try await self.readable(id, by: caller, in: transaction)
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
      let messages = try await self.read(
        selection.isAscending ? Self.ascendingSQL : Self.descendingSQL, room, low, high,
        limit: selection.limit, for: caller, in: transaction)
      guard let last = messages.last?.entry.seq else { return Page(messages: [], hasMore: false) }
      let next =
        selection.isAscending
        ? try await transaction.first(
          Self.nextSQL, [.room(id), .integer(last), .integer(high)])
        : try await transaction.first(
          Self.nextSQL, [.room(id), .integer(low), .integer(last)])
      return Page(messages: messages, hasMore: next != nil)
    }
    unknown.report(page.messages.map(\.entry))
    return page
  }

  private func readable(
    _ id: RoomID, by caller: Caller, in transaction: Transaction
  ) async throws -> Room {
    guard let room = try await directory.read(id, in: transaction) else {
      throw AppError(.roomNotFound)
    }
    let standing = RuleEngine.standing(of: caller, in: room)
    guard standing.isMember else { throw AppError(.roomNotFound) }
    guard standing.permissions.contains(.read) else { throw AppError(.forbidden) }
    return room
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

  /// Reads messages between two exclusive seqs, with their reactions.
  private func read(
    _ sql: SQL, _ room: Room, _ low: Int64, _ high: Int64, limit: Int, for caller: Caller,
    in transaction: Transaction
  ) async throws -> [MessageView] {
    let rows = try await transaction.query(
      sql, Self.values(room, low, high, limit), stoppingAfter: Self.pageBytes)
    return try await views(rows, room, for: caller, in: transaction)
  }

  private static func values(
    _ room: Room, _ low: Int64, _ high: Int64, _ limit: Int
  ) -> [SQLValue] {
    [
      .room(room.id), .integer(low), .integer(high), .integer(Int64(limit)),
      .integer(Int64(pageBytes)),
    ]
  }

  private func views(
    _ rows: [Row], _ room: Room, for caller: Caller, in transaction: Transaction
  ) async throws -> [MessageView] {
    var reacted: [Int64] = []
    let texts = try await EntryRows.texts(rows, room, contentID: 1, in: transaction)
    var messages = try zip(rows, texts).map { row, text in
      let entry = try EntryRows.entry(row, room, text: text)
      if !row.isNull(14) { reacted.append(entry.seq) }
      return MessageView(
        entry, editedAt: try row.optional(12, row.time), deletedAt: try row.optional(8, row.time),
        updatedSeq: try row.optional(13, row.integer) ?? entry.seq)
    }
    if !reacted.isEmpty {
      let counts = try await Self.reactionCounts(reacted, room.id, for: caller, in: transaction)
      for index in messages.indices {
        messages[index].reactions = counts[messages[index].entry.seq] ?? []
      }
    }
    try await findReadableSources(&messages, for: caller, in: transaction)
    return messages
  }

  private static func reactionCounts(
    _ seqs: [Int64], _ room: RoomID, for caller: Caller, in transaction: Transaction
  ) async throws -> [Int64: [ReactionCount]] {
    var counts: [Int64: [ReactionCount]] = [:]
    let rows = try await transaction.query(
      reactionCountsSQL, [.room(room), .integers(seqs), .id(caller.userID)])
    for row in rows {
      counts[try row.integer(0), default: []].append(
        ReactionCount(
          emoji: try row.text(1), people: try row.integer(2), isMine: !row.isNull(3)))
    }
    return counts
  }

  private func findReadableSources(
    _ messages: inout [MessageView], for caller: Caller, in transaction: Transaction
  ) async throws {
    let sources = Set(messages.compactMap { $0.entry.body.forward?.room })
    if sources.isEmpty { return }
    let rooms = try await directory.read(Array(sources), in: transaction)
    for index in messages.indices {
      guard let source = messages[index].entry.body.forward.flatMap({ rooms[$0.room] }) else {
        continue
      }
      messages[index].isSourceReadable =
        RuleEngine.standing(of: caller, in: source).permissions.contains(.read)
    }
  }

  // MARK: One message

  /// Reads a message or an event. Throws `room_not_found`, `forbidden` or `message_not_found`.
  package func message(
    _ seq: Int64, in id: RoomID, as caller: Caller
  ) async throws -> MessageView {
    try await database.read { try await self.message(seq, in: id, as: caller, $0) }
  }

  /// The same in the caller's transaction.
  func message(
    _ seq: Int64, in id: RoomID, as caller: Caller, _ transaction: Transaction
  ) async throws -> MessageView {
    try await message(
      seq, in: try await readable(id, by: caller, in: transaction), for: caller, transaction)
  }

  /// Reads one message of each room, at this seq. The caller may read the rooms.
  func latest(
    in rooms: [(room: Room, seq: Int64)], for caller: Caller, _ transaction: Transaction
  ) async throws -> [RoomID: MessageView] {
    let asked = rooms.filter { $0.seq > 0 }
    let results = try await transaction.pipeline(
      asked.map { Statement(Self.ascendingSQL, Self.values($0.room, $0.seq - 1, $0.seq + 1, 1)) })
    var messages: [RoomID: MessageView] = [:]
    for ((room, _), result) in zip(asked, results) {
      let found = try await views(result.rows, room, for: caller, in: transaction)
      messages[room.id] = found.first
    }
    return messages
  }

  /// Reads messages of rooms, in the order of the places. Nil for what the caller may not read, and for what is no
  /// message.
  func messages(
    at places: [(room: RoomID, seq: Int64)], for caller: Caller, _ transaction: Transaction
  ) async throws -> [MessageView?] {
    let rooms = try await directory.read(Array(Set(places.map(\.room))), in: transaction).filter {
      RuleEngine.standing(of: caller, in: $0.value).permissions.contains(.read)
    }
    return try await messages(at: places, of: rooms, for: caller, transaction)
  }

  /// Reads messages that were reported, in the order of the places, whether the platform admin is in their rooms or not.
  /// Nil where the room does not exist any more.
  func reported(
    _ places: [(room: RoomID, seq: Int64)], to admin: Caller, _ transaction: Transaction
  ) async throws -> [MessageView?] {
    let rooms = try await directory.readAgain(Array(Set(places.map(\.room))), in: transaction)
    return try await messages(at: places, of: rooms, for: admin, transaction)
  }

  /// Reads messages for the person who wrote them, who may have left the rooms. What was said in secret rooms only whoever
  /// may read it there gets.
  func authored(
    _ places: [(room: RoomID, seq: Int64)], by caller: Caller, _ transaction: Transaction
  ) async throws -> [MessageView] {
    let rooms = try await directory.read(Array(Set(places.map(\.room))), in: transaction).filter {
      $0.value.kind != .secret
        || RuleEngine.standing(of: caller, in: $0.value).permissions.contains(.read)
    }
    return try await messages(at: places, of: rooms, for: caller, transaction).compactMap(\.self)
  }

  private func messages(
    at places: [(room: RoomID, seq: Int64)], of rooms: [RoomID: Room], for caller: Caller,
    _ transaction: Transaction
  ) async throws -> [MessageView?] {
    let asked = places.compactMap { place in rooms[place.room].map { ($0, place.seq) } }
    let results = try await transaction.pipeline(
      asked.map { Statement(Self.ascendingSQL, Self.values($0, $1 - 1, $1 + 1, 1)) })
    var found: [RoomID: [Int64: MessageView]] = [:]
    for (room, rows) in Dictionary(grouping: zip(asked, results), by: { $0.0.0.id }) {
      guard let known = rooms[room] else { continue }
      let messages = try await views(
        rows.flatMap(\.1.rows), known, for: caller, in: transaction)
      for message in messages { found[room, default: [:]][message.entry.seq] = message }
    }
    return places.map { found[$0.room]?[$0.seq] }
  }

  /// Reads a message for the person who has just written or changed it, who may not be allowed to read the room.
  func written(_ seq: Int64, in id: RoomID, by caller: Caller) async throws -> MessageView {
    try await database.read { transaction in
      guard let room = try await self.directory.read(id, in: transaction) else {
        throw AppError(.roomNotFound)
      }
      return try await self.message(seq, in: room, for: caller, transaction)
    }
  }

  /// Reads a message to which somebody has just reacted. Who may write in the room but not read it gets nothing of what
  /// the message says, and no reactions.
  func reacted(_ seq: Int64, in id: RoomID, by caller: Caller) async throws -> MessageView {
    try await database.read { transaction in
      guard let room = try await self.directory.read(id, in: transaction) else {
        throw AppError(.roomNotFound)
      }
      let message = try await self.message(seq, in: room, for: caller, transaction)
      let mayRead = RuleEngine.standing(of: caller, in: room).permissions.contains(.read)
      return mayRead || message.entry.from == caller.userID ? message : message.withoutContent
    }
  }

  private func message(
    _ seq: Int64, in room: Room, for caller: Caller, _ transaction: Transaction
  ) async throws -> MessageView {
    let found = try await read(
      Self.ascendingSQL, room, seq - 1, seq + 1, limit: 1, for: caller, in: transaction)
    guard let message = found.first else { throw AppError(.messageNotFound) }
    return message
  }

  /// Reads the texts that a message had before the present one, oldest first, behind that of the entry `after`. Only
  /// its author and those who manage the room may: others get `forbidden`. A deleted message has none.
  package func earlierTexts(
    of seq: Int64, in id: RoomID, as caller: Caller, after: Int64, limit: Int
  ) async throws -> [EarlierText] {
    try await database.read { transaction in
      let room = try await self.readable(id, by: caller, in: transaction)
      let message = try await self.message(seq, in: room, for: caller, transaction)
      let standing = RuleEngine.standing(of: caller, in: room)
      guard message.entry.from == caller.userID || RuleEngine.canManage(standing, room) else {
        throw AppError(.forbidden)
      }
      if message.deletedAt != nil { return [] }
      return try await transaction.query(
        """
        SELECT data, ts, version_seq FROM earlier_texts
        WHERE room_id = $1 AND seq = $2 AND version_seq > $3 ORDER BY version_seq LIMIT $4
        """, [.room(id), .integer(seq), .integer(after), .integer(Int64(limit))]
      ).map {
        EarlierText(data: try $0.text(0), ts: try $0.time(1), seq: try $0.integer(2))
      }
    }
  }

  /// Reads the reactions to a message, oldest first, behind that of the entry `after`.
  package func reactions(
    to seq: Int64, in id: RoomID, as caller: Caller, after: Int64, limit: Int
  ) async throws -> [Reaction] {
    try await database.read { transaction in
      let room = try await self.readable(id, by: caller, in: transaction)
      _ = try await self.message(seq, in: room, for: caller, transaction)
      return try await transaction.query(
        """
        SELECT emoji, user_id, ts, entry_seq FROM reactions
        WHERE room_id = $1 AND seq = $2 AND entry_seq > $3 ORDER BY entry_seq LIMIT $4
        """, [.room(id), .integer(seq), .integer(after), .integer(Int64(limit))]
      ).map {
        Reaction(
          emoji: try $0.text(0), userID: try $0.id(1), ts: try $0.time(2), seq: try $0.integer(3))
      }
    }
  }

  // MARK: SQL

  // The first columns are those of `EntryRows`, and the parameters too. 16 to 19 are the codes of edits, deletions and
  // reactions, which show in the messages that they changed.

  private static let ascendingSQL = SQL(
    sqlite: """
      SELECT e.seq, e.id, e.type, e.sender, e.ts, e.client_id, e.target_seq, e.non_messages,
        e.erased_at, c.data, e.extras, e.text_seq, e.edited_at, e.updated_seq, e.reaction_kinds
      FROM entries e LEFT JOIN contents c ON c.id = e.id
      WHERE e.room_id = $1 AND e.seq > $2 AND e.seq < $3 AND e.type NOT BETWEEN 16 AND 19
      ORDER BY e.seq LIMIT $4
      """,
    postgres: """
      SELECT seq, id, type, sender, ts, client_id, target_seq, non_messages, erased_at, data, extras,
        text_seq, edited_at, updated_seq, reaction_kinds
      FROM (
        SELECT e.*, c.data, sum(coalesce(octet_length(c.data), 0)) OVER (ORDER BY e.seq)
          - coalesce(octet_length(c.data), 0) AS bytes_before
        FROM (SELECT * FROM entries
          WHERE room_id = $1 AND seq > $2 AND seq < $3 AND type NOT BETWEEN 16 AND 19
          ORDER BY seq LIMIT $4) e LEFT JOIN contents c ON c.id = e.id) counted
      WHERE bytes_before < $5 ORDER BY seq
      """)

  private static let descendingSQL = SQL(
    sqlite: """
      SELECT e.seq, e.id, e.type, e.sender, e.ts, e.client_id, e.target_seq, e.non_messages,
        e.erased_at, c.data, e.extras, e.text_seq, e.edited_at, e.updated_seq, e.reaction_kinds
      FROM entries e LEFT JOIN contents c ON c.id = e.id
      WHERE e.room_id = $1 AND e.seq > $2 AND e.seq < $3 AND e.type NOT BETWEEN 16 AND 19
      ORDER BY e.seq DESC LIMIT $4
      """,
    postgres: """
      SELECT seq, id, type, sender, ts, client_id, target_seq, non_messages, erased_at, data, extras,
        text_seq, edited_at, updated_seq, reaction_kinds
      FROM (
        SELECT e.*, c.data, sum(coalesce(octet_length(c.data), 0)) OVER (ORDER BY e.seq DESC)
          - coalesce(octet_length(c.data), 0) AS bytes_before
        FROM (SELECT * FROM entries
          WHERE room_id = $1 AND seq > $2 AND seq < $3 AND type NOT BETWEEN 16 AND 19
          ORDER BY seq DESC LIMIT $4) e LEFT JOIN contents c ON c.id = e.id) counted
      WHERE bytes_before < $5 ORDER BY seq DESC
      """)

  private static let nextSQL: SQL = """
    SELECT seq FROM entries
    WHERE room_id = $1 AND seq > $2 AND seq < $3 AND type NOT BETWEEN 16 AND 19 LIMIT 1
    """

  /// `$2` is a list of seqs (`SQLValue.integers`), and `$3` the caller.
  private static let reactionCountsSQL = SQL(
    sqlite: """
      SELECT k.seq, k.emoji, k.people, (SELECT entry_seq FROM reactions r
        WHERE r.room_id = k.room_id AND r.seq = k.seq AND r.emoji = k.emoji AND r.user_id = $3)
      FROM reaction_counts k
      WHERE k.room_id = $1 AND k.seq IN (SELECT value FROM json_each($2))
      ORDER BY k.seq, k.first_seq
      """,
    postgres: """
      SELECT k.seq, k.emoji, k.people, (SELECT entry_seq FROM reactions r
        WHERE r.room_id = k.room_id AND r.seq = k.seq AND r.emoji = k.emoji AND r.user_id = $3)
      FROM reaction_counts k
      WHERE k.room_id = $1 AND k.seq IN (
        SELECT value::bigint FROM json_array_elements_text($2::json) AS list (value))
      ORDER BY k.seq, k.first_seq
      """)
}

extension EntryBody {
  fileprivate var forward: Forward? {
    if case .message(let content) = self { content.extras?.forward } else { nil }
  }
}
