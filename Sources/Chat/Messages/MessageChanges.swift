internal import Access
internal import Basics
internal import Database
internal import Events

/// What the drafts of one commit do to messages that are in the log: edits, deletions, reactions and answers.
///
/// `LogAppender` reads the messages with `read`, asks `decide` about each draft in order, and tells `apply` which entry
/// a draft became. Each decision sees what the drafts before it did. The statements keep the present state of the
/// messages (`ChatSchema`), so that no reader ever computes it from the log.
struct MessageChanges {
  enum Decision {
    case enters
    case refused(ErrorCode)
    /// The draft would change nothing, so it makes no entry. The entry at this seq is acknowledged.
    case unchanged(Int64)
  }

  /// The place of a message.
  private struct Place: Hashable {
    let room: RoomID
    let seq: Int64
  }

  /// An entry that drafts refer to, as the drafts so far leave it.
  private struct Target {
    let id: MessageID
    let code: Int64
    let from: UserID?
    let ts: Timestamp
    /// Only read for edits and deletions.
    var data: String?
    /// Whether it is in a secret room, where nothing of an earlier text is kept. Only known for edits and deletions.
    var isSecret = false
    var extras: String?
    var textSeq: Int64?
    var editedAt: Timestamp?
    var erasedAt: Timestamp?
    var updatedSeq: Int64?
    var reactionKinds: Int64
    var isChanged = false
  }

  private struct Emoji: Hashable {
    let place: Place
    let emoji: String
  }

  private struct Reaction: Hashable {
    let emoji: Emoji
    let user: UserID
  }

  private struct Count {
    var people: Int64
    var firstSeq: Int64
    var isChanged = false
  }

  /// The places that the drafts refer to.
  private var places: Set<Place> = []
  private var targets: [Place: Target] = [:]
  /// Whether the user has reacted with the emoji.
  private var reactions: [Reaction: Bool] = [:]
  private var counts: [Emoji: Count] = [:]

  private static let maximumReactionKinds: Int64 = 50

  // MARK: Reading

  /// Reads what the drafts refer to. Their rooms' heads are locked already.
  mutating func read(_ drafts: [Draft], in transaction: Transaction) async throws {
    var places: [Place: Bool] = [:]
    var asked: Set<Reaction> = []
    for draft in drafts {
      guard let seq = draft.body.target else { continue }
      let place = Place(room: draft.roomID, seq: seq)
      places[place] = places[place] == true || Self.changesText(draft.body)
      if let reaction = Self.reaction(draft) { asked.insert(reaction) }
    }
    if places.isEmpty { return }
    self.places = Set(places.keys)
    let results = try await transaction.pipeline(
      places.map { place, changesText in
        Statement(
          changesText ? Self.targetWithTextSQL : Self.targetSQL,
          [.room(place.room), .integer(place.seq)])
      }
        + asked.map { reaction in
          let place = reaction.emoji.place
          return Statement(
            Self.reactionSQL,
            [
              .room(place.room), .integer(place.seq), .text(reaction.emoji.emoji),
              .id(reaction.user),
            ])
        })
    for (place, result) in zip(places.keys, results) {
      if let row = result.rows.first { targets[place] = try Self.target(row) }
    }
    for (reaction, result) in zip(asked, results.dropFirst(places.count)) {
      guard let row = result.rows.first else { continue }
      reactions[reaction] = !row.isNull(0)
      if let people = try row.optional(1, row.integer) {
        counts[reaction.emoji] = Count(people: people, firstSeq: try row.integer(2))
      }
    }
  }

  private static func changesText(_ body: EntryBody) -> Bool {
    switch body {
    case .edit, .deletion: true
    case .message, .reaction, .event, .erased, .unknown: false
    }
  }

  private static func reaction(_ draft: Draft) -> Reaction? {
    guard case .reaction(let to, let emoji, _) = draft.body, let user = draft.from else {
      return nil
    }
    return Reaction(
      emoji: Emoji(place: Place(room: draft.roomID, seq: to), emoji: emoji), user: user)
  }

  private static func target(_ row: Row) throws -> Target {
    Target(
      id: try row.id(0), code: try row.integer(1), from: try row.userOrNobody(2),
      ts: try row.time(3), data: try Self.text(row), isSecret: !row.isNull(11),
      extras: try row.optional(4, row.text), textSeq: try row.optional(5, row.integer),
      editedAt: try row.optional(6, row.time), erasedAt: try row.optional(7, row.time),
      updatedSeq: try row.optional(8, row.integer),
      reactionKinds: try row.optional(9, row.integer) ?? 0)
  }

  /// The text of a message, if it was read.
  private static func text(_ row: Row) throws -> String? {
    guard let stored = try row.optional(10, row.text), !row.isNull(11) else {
      return try row.optional(10, row.text)
    }
    return SecretKey(try row.blob(11))?.open(stored, of: try row.id(0))
  }

  /// An entry of this commit, which later drafts refer to.
  private static func target(_ entry: Entry, isSecret: Bool) -> Target? {
    guard let stored = EntryCoding.columns(of: entry.body) else { return nil }
    return Target(
      id: entry.id, code: stored.code, from: entry.from, ts: entry.ts, data: stored.content,
      isSecret: isSecret, extras: stored.extras, reactionKinds: 0)
  }

  // MARK: Deciding

  /// Decides on a draft whose author may write it, or for a deletion, is in the room. `head` is the last seq of the
  /// room.
  func decide(_ draft: Draft, head: Int64) -> Decision {
    guard let seq = draft.body.target else { return .enters }
    let place = Place(room: draft.roomID, seq: seq)
    let target = targets[place]
    if case .message = draft.body { return Self.decideOnAnswer(to: target) }
    guard let target, target.code == EntryCoding.Code.event || isMessage(target) else {
      return .refused(.messageNotFound)
    }
    guard isMessage(target) else { return .refused(Self.isEvent) }
    switch draft.body {
    case .edit(_, let data, let mentions): return decideOnEdit(draft, target, seq, data, mentions)
    case .deletion:
      guard target.from == draft.from || draft.access.isManaging else {
        return .refused(.forbidden)
      }
      // Nothing touches a message after its deletion.
      return target.erasedAt == nil ? .enters : .unchanged(target.updatedSeq ?? head)
    case .reaction(_, let emoji, let isRemoved):
      if target.erasedAt != nil { return .refused(.messageDeleted) }
      guard let reaction = Self.reaction(draft) else { return .refused(.internalError) }
      if reactions[reaction] ?? false != isRemoved { return .unchanged(head) }
      let isNewKind = !isRemoved && counts[Emoji(place: place, emoji: emoji)] == nil
      let isFull = target.reactionKinds >= Self.maximumReactionKinds
      return isNewKind && isFull ? .refused(.tooManyReactions) : .enters
    case .message, .event, .erased, .unknown: return .enters
    }
  }

  private func isMessage(_ target: Target) -> Bool { EntryCoding.Code.isMessage(target.code) }

  private static func decideOnAnswer(to target: Target?) -> Decision {
    guard let target, EntryCoding.Code.isMessage(target.code) else { return .refused(isNoMessage) }
    return target.erasedAt == nil ? .enters : .refused(.messageDeleted)
  }

  private func decideOnEdit(
    _ draft: Draft, _ target: Target, _ seq: Int64, _ data: String?, _ mentions: [UserID]?
  ) -> Decision {
    if target.erasedAt != nil { return .refused(.messageDeleted) }
    guard target.from == draft.from else { return .refused(.forbidden) }
    guard target.code == EntryCoding.Code.text else { return .refused(Self.isNoText) }
    let old = EntryCoding.mentions(in: target.extras)
    // Byte by byte: texts that are only canonically equivalent differ.
    let isSameText = target.data.map { $0.utf8.elementsEqual((data ?? "").utf8) } ?? false
    let isSame = isSameText && Set(old) == Set(mentions ?? old)
    return isSame ? .unchanged(target.textSeq ?? seq) : .enters
  }

  private static let isEvent = ErrorCode.validationFailed.saying(
    "Events cannot be changed, deleted or reacted to.")
  private static let isNoText = ErrorCode.validationFailed.saying(
    "Only messages of type text can be edited.")
  private static let isNoMessage = ErrorCode.validationFailed.saying(
    "reply_to names no message of this room.")

  /// The fields at fault, if a refusal is about one.
  static func details(of refusal: ErrorCode) -> [AppError.Detail] {
    refusal.meaning == isNoMessage.meaning
      ? [.init(field: "reply_to", message: "names no message of this room")] : []
  }

  // MARK: Applying

  /// Returns the body of the entry that a draft becomes: that of the draft, with all mentions of an edit.
  func body(of draft: Draft) -> EntryBody {
    guard case .edit(let of, let data, nil) = draft.body else { return draft.body }
    let target = targets[Place(room: draft.roomID, seq: of)]
    return .edit(of: of, data: data, mentions: EntryCoding.mentions(in: target?.extras))
  }

  /// Returns the statements with which this entry changes what it refers to. `key` is the key of its text in a secret
  /// room.
  mutating func apply(_ entry: Entry, _ key: SecretKey?) -> [Statement] {
    func place(_ seq: Int64) -> Place { Place(room: entry.roomID, seq: seq) }
    if !places.isEmpty, places.contains(place(entry.seq)) {
      targets[place(entry.seq)] = Self.target(entry, isSecret: key != nil)
    }
    switch entry.body {
    case .message(let content):
      return mention(content.extras?.mentions ?? [], at: place(entry.seq))
    case .edit(let of, let data, let mentions):
      return edit(place(of), entry, data ?? "", mentions ?? [], key)
    case .deletion(let of): return delete(place(of), entry)
    case .reaction(let to, let emoji, let isRemoved):
      return react(Emoji(place: place(to), emoji: emoji), entry, isRemoved: isRemoved)
    case .event, .erased, .unknown: return []
    }
  }

  private func mention(_ users: [UserID], at place: Place) -> [Statement] {
    guard !users.isEmpty else { return [] }
    return [Statement(Self.mentionSQL, [.ids(users), .room(place.room), .integer(place.seq)])]
  }

  private mutating func edit(
    _ place: Place, _ entry: Entry, _ data: String, _ mentions: [UserID], _ key: SecretKey?
  ) -> [Statement] {
    guard var target = targets[place] else { return [] }
    let stored = key?.seal(data, of: target.id) ?? data
    var statements = [
      key.map { SecretKeyStore.replace(target.id, with: $0) } ?? keepText(of: target, at: place),
      Statement(Self.replaceTextSQL, [.id(target.id), .text(stored)]),
    ]
    if key != nil {
      statements.append(
        SecretKeyStore.forgetDigest(of: target.textSeq ?? place.seq, in: place.room))
    }
    let old = EntryCoding.mentions(in: target.extras)
    if Set(old) != Set(mentions) {
      if !old.isEmpty { statements.append(forgetMentions(old, at: place)) }
      statements += mention(mentions, at: place)
    }
    target.data = data
    target.extras = EntryCoding.extras(target.extras, mentioning: mentions)
    target.textSeq = entry.seq
    target.editedAt = entry.ts
    target.updatedSeq = entry.seq
    target.isChanged = true
    targets[place] = target
    return statements
  }

  /// Keeps the present text of a message among the earlier ones.
  private func keepText(of target: Target, at place: Place) -> Statement {
    Statement(
      Self.keepTextSQL,
      [
        .room(place.room), .integer(place.seq), .integer(target.textSeq ?? place.seq),
        .time(target.editedAt ?? target.ts), .id(target.id),
      ])
  }

  private mutating func delete(_ place: Place, _ entry: Entry) -> [Statement] {
    guard var target = targets[place] else { return [] }
    let values: [SQLValue] = [.room(place.room), .integer(place.seq)]
    var statements = [
      target.isSecret ? SecretKeyStore.destroy(target.id) : keepText(of: target, at: place),
      Statement("DELETE FROM contents WHERE id = $1", [.id(target.id)]),
      Statement(
        "UPDATE earlier_texts SET deleted_at = $3 WHERE room_id = $1 AND seq = $2",
        values + [.time(entry.ts)]),
    ]
    if target.isSecret {
      statements.append(
        SecretKeyStore.forgetDigest(of: target.textSeq ?? place.seq, in: place.room))
    }
    if target.reactionKinds > 0 {
      statements += [
        Statement("DELETE FROM reactions WHERE room_id = $1 AND seq = $2", values),
        Statement("DELETE FROM reaction_counts WHERE room_id = $1 AND seq = $2", values),
      ]
      counts = counts.filter { $0.key.place != place }
    }
    let mentions = EntryCoding.mentions(in: target.extras)
    if !mentions.isEmpty { statements.append(forgetMentions(mentions, at: place)) }
    target.data = nil
    target.extras = nil
    target.erasedAt = entry.ts
    target.updatedSeq = entry.seq
    target.reactionKinds = 0
    target.isChanged = true
    targets[place] = target
    return statements
  }

  private func forgetMentions(_ users: [UserID], at place: Place) -> Statement {
    Statement(Self.forgetMentionsSQL, [.ids(users), .room(place.room), .integer(place.seq)])
  }

  private mutating func react(
    _ emoji: Emoji, _ entry: Entry, isRemoved: Bool
  ) -> [Statement] {
    guard var target = targets[emoji.place], let user = entry.from else { return [] }
    reactions[Reaction(emoji: emoji, user: user)] = !isRemoved
    var count = counts[emoji] ?? Count(people: 0, firstSeq: entry.seq)
    if count.people == 0 {
      count.firstSeq = entry.seq
      target.reactionKinds += 1
    }
    count.people += isRemoved ? -1 : 1
    count.isChanged = true
    let place = emoji.place
    var statements: [Statement] = []
    if count.people == 0 {
      target.reactionKinds -= 1
      counts[emoji] = nil
      statements.append(
        Statement(
          Self.forgetCountSQL, [.room(place.room), .integer(place.seq), .text(emoji.emoji)]))
    } else {
      counts[emoji] = count
    }
    target.updatedSeq = entry.seq
    target.isChanged = true
    targets[place] = target
    var values: [SQLValue] = [
      .room(place.room), .integer(place.seq), .text(emoji.emoji), .id(user),
    ]
    if !isRemoved { values += [.integer(entry.seq), .time(entry.ts)] }
    statements.append(Statement(isRemoved ? Self.takeBackSQL : Self.reactSQL, values))
    return statements
  }

  /// Returns the statements that write the final state of everything that was changed. They come after those of all
  /// entries.
  func finish() -> [Statement] {
    let changed = targets.filter(\.value.isChanged).map { place, target in
      Statement(
        Self.updateSQL,
        [
          .room(place.room), .integer(place.seq), .optional(target.extras) { .text($0) },
          .optional(target.textSeq) { .integer($0) }, .optional(target.editedAt) { .time($0) },
          .optional(target.erasedAt) { .time($0) }, .optional(target.updatedSeq) { .integer($0) },
          target.reactionKinds == 0 ? .null : .integer(target.reactionKinds),
        ])
    }
    return changed
      + counts.filter(\.value.isChanged).map { emoji, count in
        Statement(
          Self.countSQL,
          [
            .room(emoji.place.room), .integer(emoji.place.seq), .text(emoji.emoji),
            .integer(count.people), .integer(count.firstSeq),
          ])
      }
  }

  // MARK: SQL

  private static let targetSQL: SQL = """
    SELECT id, type, sender, ts, extras, text_seq, edited_at, erased_at, updated_seq,
      reaction_kinds, NULL, NULL
    FROM entries WHERE room_id = $1 AND seq = $2
    """

  private static let targetWithTextSQL: SQL = """
    SELECT e.id, e.type, e.sender, e.ts, e.extras, e.text_seq, e.edited_at, e.erased_at,
      e.updated_seq, e.reaction_kinds, c.data, k.key
    FROM entries e LEFT JOIN contents c ON c.id = e.id LEFT JOIN message_keys k ON k.id = e.id
    WHERE e.room_id = $1 AND e.seq = $2
    """

  private static let reactionSQL: SQL = """
    SELECT
      (SELECT entry_seq FROM reactions
        WHERE room_id = $1 AND seq = $2 AND emoji = $3 AND user_id = $4),
      (SELECT people FROM reaction_counts WHERE room_id = $1 AND seq = $2 AND emoji = $3),
      (SELECT first_seq FROM reaction_counts WHERE room_id = $1 AND seq = $2 AND emoji = $3)
    """

  private static let keepTextSQL: SQL = """
    INSERT INTO earlier_texts (room_id, seq, version_seq, ts, data)
    SELECT $1, $2, $3, $4, data FROM contents WHERE id = $5
    """

  private static let replaceTextSQL: SQL = "UPDATE contents SET data = $2 WHERE id = $1"

  // `$1` is a list of ids (`SQLValue.ids`).

  private static let mentionSQL = SQL(
    sqlite: """
      WITH RECURSIVE list (i) AS (
        SELECT 0 UNION ALL SELECT i + 1 FROM list WHERE (i + 1) * 16 < length($1))
      INSERT INTO mentions (user_id, room_id, seq)
        SELECT substr($1, i * 16 + 1, 16), $2, $3 FROM list
      """,
    postgres: """
      INSERT INTO mentions (user_id, room_id, seq)
        SELECT substring($1::bytea FROM i * 16 + 1 FOR 16), $2, $3
        FROM generate_series(0, length($1::bytea) / 16 - 1) AS i
      """)

  private static let forgetMentionsSQL = SQL(
    sqlite: """
      WITH RECURSIVE list (i) AS (
        SELECT 0 UNION ALL SELECT i + 1 FROM list WHERE (i + 1) * 16 < length($1))
      DELETE FROM mentions WHERE room_id = $2 AND seq = $3 AND user_id IN (
        SELECT substr($1, i * 16 + 1, 16) FROM list)
      """,
    postgres: """
      DELETE FROM mentions WHERE room_id = $2 AND seq = $3 AND user_id IN (
        SELECT substring($1::bytea FROM i * 16 + 1 FOR 16)
        FROM generate_series(0, length($1::bytea) / 16 - 1) AS i)
      """)

  private static let reactSQL: SQL = """
    INSERT INTO reactions (room_id, seq, emoji, user_id, entry_seq, ts)
    VALUES ($1, $2, $3, $4, $5, $6)
    """

  private static let takeBackSQL: SQL = """
    DELETE FROM reactions WHERE room_id = $1 AND seq = $2 AND emoji = $3 AND user_id = $4
    """

  private static let countSQL: SQL = """
    INSERT INTO reaction_counts (room_id, seq, emoji, people, first_seq) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (room_id, seq, emoji) DO UPDATE
      SET people = excluded.people, first_seq = excluded.first_seq
    """

  private static let forgetCountSQL: SQL = """
    DELETE FROM reaction_counts WHERE room_id = $1 AND seq = $2 AND emoji = $3
    """

  private static let updateSQL: SQL = """
    UPDATE entries SET extras = $3, text_seq = $4, edited_at = $5, erased_at = $6,
      updated_seq = $7, reaction_kinds = $8
    WHERE room_id = $1 AND seq = $2
    """
}

extension EntryBody {
  /// The seq of the earlier entry that this one refers to.
  fileprivate var target: Int64? {
    switch self {
    case .message(let content): content.extras?.replyTo
    case .edit(let of, _, _): of
    case .deletion(let of): of
    case .reaction(let to, _, _): to
    case .event, .erased, .unknown: nil
    }
  }
}
