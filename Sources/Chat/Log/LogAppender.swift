internal import Access
internal import Accounts
package import Basics
internal import Crypto
package import Database
package import Events

/// The only code that assigns seqs. The group commit of messages uses it, and so do other transactions, so that for
/// example a rule and the entry that records it are one commit.
///
/// In the transaction, the heads are read in ascending order of rooms (and locked, on Postgres). The versions that each
/// draft's permission is based on are verified. Drafts that are in the log already are found by their client id, or by
/// their own id if they have none (see `Lookup`). New ones get the next seqs, and the heads move. After the commit the
/// entries are published in order, with a receipt for every other draft that has an origin.
package struct LogAppender: Sendable {
  private let events: EventStream
  private let clientKeys: ClientKeyIndex?
  private let attachments: AttachmentClaims

  /// `clientKeys` is the index of the database that is written to; nil if the database has one itself. `attachments`
  /// are what features attach to messages, each for its own types.
  package init(
    events: EventStream, clientKeys: ClientKeyIndex?, attachments: [any Attachments] = []
  ) {
    self.events = events
    self.clientKeys = clientKeys
    self.attachments = AttachmentClaims(attachments)
  }

  /// The outcome of a draft.
  package enum Outcome: Sendable {
    case entered(Entry)
    case refused(Receipt.Outcome)
  }

  /// Which drafts are looked up in the log before they are written.
  enum Lookup {
    /// All drafts, because some may be in the log already.
    case all
    /// Only the drafts that will be refused anyway, and those with a claim. If any other draft is in the log already,
    /// or occurs twice, writing it fails, and so does the transaction; it must be run again with `all`. Most commits
    /// contain no retry, and this saves a look-up per draft, and keeping its result.
    case refused
  }

  /// Appends drafts in order, in the caller's transaction. Returns each draft's outcome. Throws what the database
  /// throws; the transaction must be rolled back then.
  @discardableResult
  package func append(
    _ drafts: [Draft], at now: Timestamp = .now, in transaction: Transaction
  ) async throws -> [Outcome] {
    try await append(drafts, at: now, lookup: .all, hasEnded: { _ in false }, in: transaction)
  }

  /// The same. `hasEnded` tells whether a session that permitted a draft has ended since.
  func append(
    _ drafts: [Draft], at now: Timestamp, lookup: Lookup, hasEnded: (SessionID) -> Bool,
    in transaction: Transaction
  ) async throws -> [Outcome] {
    if drafts.isEmpty { return [] }
    var run = Run(now: now, lookup: lookup)
    if clientKeys != nil {
      run.addition = ClientKeyIndex.Addition(areLookedUp: lookup == .all)
    }
    try await prepare(drafts, &run, hasEnded: hasEnded, in: transaction)
    try await find(drafts, &run, in: transaction)
    try await claim(drafts, &run, in: transaction)
    try await run.changes.read(drafts, in: transaction)
    var outcomes: [Outcome] = []
    outcomes.reserveCapacity(drafts.count)
    for index in drafts.indices { outcomes.append(enter(drafts[index], index, &run)) }
    run.statements += run.changes.finish()
    for (roomID, head) in run.heads where head.hasMoved {
      run.addition?.heads.append((roomID, head.lastSeq))
      run.statements.append(
        Statement(
          Self.moveSQL,
          [
            .room(roomID), .integer(head.lastSeq), .time(head.lastTime),
            .integer(head.nonMessages), .optional(head.message?.seq) { .integer($0) },
            .optional(head.message?.ts) { .time($0) },
          ]))
    }
    if let clientKeys, let addition = run.addition {
      // A body whose transaction was already abandoned must not change shared state.
      try transaction.requireOpen()
      try clientKeys.add(addition)
    }
    if !run.statements.isEmpty {
      let results = try await transaction.pipeline(run.statements)
      for place in run.entryPlaces where results[place].changes == 0 { throw Self.isKnown }
    }
    try await acknowledgeUnchanged(drafts, run, &outcomes, in: transaction)
    publish(drafts, outcomes, after: transaction)
    return outcomes
  }

  private func publish(
    _ drafts: [Draft], _ outcomes: [Outcome], after transaction: Transaction
  ) {
    let published = zip(drafts, outcomes).compactMap { draft, outcome -> Event? in
      switch outcome {
      case .entered(let entry): .entry(entry, origin: draft.origin)
      case .refused(let reason):
        draft.origin == nil ? nil : .receipt(Receipt(draft, reason))
      }
    }
    transaction.afterCommit { [events] in events.publish(published) }
  }

  // MARK: State of a call

  private struct Head {
    var lastSeq: Int64
    var lastTime: Timestamp
    var nonMessages: Int64
    let accessVersion: Int64
    /// For a secret room the seconds after which a message is destroyed, or 0; nil for all others.
    let secrecy: Int64?
    /// The last message that was appended; nil if there was none.
    var message: (seq: Int64, ts: Timestamp)?
    var hasMoved = false

    /// Advances the head by one entry.
    mutating func append(_ draft: Draft, _ body: EntryBody, at now: Timestamp) -> Entry {
      lastSeq += 1
      lastTime = max(lastTime, now)
      if body.isMessage { message = (lastSeq, lastTime) } else { nonMessages += 1 }
      hasMoved = true
      return Entry(
        roomID: draft.roomID, seq: lastSeq, id: draft.id, from: draft.from, to: draft.to,
        channelID: draft.channelID, ts: lastTime, clientID: draft.clientID,
        ordinal: lastSeq - nonMessages, body: body)
    }
  }

  /// An entry that is in the log.
  private struct KnownEntry {
    let entry: Entry
    let digest: StoredDigest
  }

  /// The digest of an entry's content, as it is stored.
  private struct StoredDigest {
    /// Nil if the entry's id is the key, because an id names one entry only, and if the text was destroyed that it was
    /// made from: then nobody can tell whether a retry says the same.
    let value: UUID?
    /// The key with which it is stored, if it was made from a text of a secret room.
    var key: SecretKey?

    func matches(_ digest: UUID?) -> Bool {
      guard let value else { return true }
      guard let key else { return value == digest }
      return digest.flatMap { key.keyed($0) } == value
    }
  }

  /// The key by which a draft is recognised as a repeat of an earlier one.
  private enum Key: Hashable {
    case client(ClientKey)
    case id(MessageID)

    init(_ draft: Draft) { self = ClientKey(draft).map { .client($0) } ?? .id(draft.id) }
  }

  /// The error for a draft that was not looked up and that is, or may be, in the log already.
  static let isKnown = DatabaseError(
    kind: .constraint, message: "an entry with this client id is in the log")

  /// The progress of one call of `append`.
  private struct Run {
    let now: Timestamp
    let lookup: Lookup
    var heads: [RoomID: Head] = [:]
    /// Why a draft is refused unless it is in the log already; by its position.
    var refusals: [Int: Receipt.Outcome] = [:]
    var known: [Key: KnownEntry] = [:]
    /// Whether each new draft is kept in `known`, for another draft with the same key. If no draft was looked up, the
    /// indexes find such repeats.
    var looksForRepeats = false
    /// The statements that are written together with a draft; by its position.
    var claimed: [Int: [Statement]] = [:]
    var changes = MessageChanges()
    /// The drafts that would change nothing, by their positions, each with the seq of the entry to acknowledge.
    var unchanged: [Int: Int64] = [:]
    var statements: [Statement] = []
    /// The positions in `statements` of the inserts that do nothing if `client_keys` contains the key.
    var entryPlaces: [Int] = []
    /// What the client key index must be told; nil if the database has an index itself.
    var addition: ClientKeyIndex.Addition?
  }

  // MARK: Steps

  /// Reads the heads, and finds the drafts that are not permitted any more.
  private func prepare(
    _ drafts: [Draft], _ run: inout Run, hasEnded: (SessionID) -> Bool, in transaction: Transaction
  ) async throws {
    run.heads = try await lockHeads(drafts, in: transaction)
    let affiliations = try await lockAffiliations(drafts, in: transaction)
    run.statements.reserveCapacity(drafts.count * 2 + run.heads.count)
    for (index, draft) in drafts.enumerated() {
      switch draft.access {
      case .decided:
        if run.heads[draft.roomID] == nil { run.refusals[index] = .stale }
      case .denied(let code): run.refusals[index] = .denied(code)
      case .granted(let grant):
        if let session = grant.session, hasEnded(session) {
          run.refusals[index] = .denied(.invalidToken)
        } else if run.heads[draft.roomID]?.accessVersion != grant.accessVersion {
          run.refusals[index] = .stale
        } else if let version = grant.affiliationsVersion, let user = draft.from,
          affiliations[user] ?? 0 != version
        {
          run.refusals[index] = .stale
        }
      }
    }
  }

  /// Reads the heads and, on Postgres, locks them, in ascending order, so that two nodes never deadlock. A deleted room
  /// still has a head, but with a version under which no draft was checked.
  private func lockHeads(
    _ drafts: [Draft], in transaction: Transaction
  ) async throws -> [RoomID: Head] {
    try transaction.willLock(.roomHeads)
    let rooms = Set(drafts.lazy.map(\.roomID)).sorted()
    let results = try await transaction.pipeline(rooms.map { Statement(Self.headSQL, [.room($0)]) })
    var heads: [RoomID: Head] = [:]
    heads.reserveCapacity(rooms.count)
    for (room, result) in zip(rooms, results) {
      guard let row = result.rows.first else { continue }
      heads[room] = Head(
        lastSeq: try row.integer(0), lastTime: try row.time(1), nonMessages: try row.integer(2),
        accessVersion: try row.integer(3), secrecy: try row.optional(4, row.integer))
    }
    return heads
  }

  /// Reads and locks the versions of the authors' memberships, if their permission depends on them. A transaction
  /// that removes a membership either waits for this commit or comes before it.
  private func lockAffiliations(
    _ drafts: [Draft], in transaction: Transaction
  ) async throws -> [UserID: Int64] {
    var users: Set<UserID> = []
    for draft in drafts {
      guard case .granted(let grant) = draft.access, grant.affiliationsVersion != nil,
        let user = draft.from
      else { continue }
      users.insert(user)
    }
    return users.isEmpty ? [:] : try await AffiliationVersions.lock(users, in: transaction)
  }

  /// Finds the drafts that are in the log already.
  private func find(
    _ drafts: [Draft], _ run: inout Run, in transaction: Transaction
  ) async throws {
    let asked = drafts.indices.filter {
      run.lookup == .all || run.refusals[$0] != nil || Self.dependsOnOthers(drafts[$0])
    }
    if asked.isEmpty { return }
    run.looksForRepeats = true
    let results = try await transaction.pipeline(asked.map { lookingUp(drafts[$0]) })
    let keys = try await digestKeys(asked.map { drafts[$0] }, results, run, in: transaction)
    for (index, result) in zip(asked, results) {
      guard let row = result.rows.first else { continue }
      let draft = drafts[index]
      let seq = try row.integer(0)
      let digest = try row.optional(4, row.uuid)
      // Equal digests mean equal content, so a retry's body is the stored body. If several drafts have this key, the
      // known entry takes its body from the one with the stored digest.
      let key = Key(draft)
      let stored = StoredDigest(
        value: digest, key: keys[EntryPlace(room: draft.roomID, seq: seq)])
      if run.known[key] != nil, !stored.matches(EntryCoding.digest(draft.body)) { continue }
      let entry = Entry(
        roomID: draft.roomID, seq: seq, id: try row.id(1), from: draft.from, to: draft.to,
        channelID: draft.channelID, ts: try row.time(2), clientID: draft.clientID,
        ordinal: seq - (try row.integer(3)), body: draft.body)
      run.known[key] = KnownEntry(entry: entry, digest: stored)
    }
  }

  /// The place of an entry.
  private struct EntryPlace: Hashable {
    let room: RoomID
    let seq: Int64
  }

  /// Whether the body has a text, which is sealed in secret rooms.
  private static func hasText(_ body: EntryBody) -> Bool {
    switch body {
    case .message, .edit: true
    case .deletion, .reaction, .event, .erased, .unknown: false
    }
  }

  /// Reads the keys with which digests are stored in secret rooms.
  private func digestKeys(
    _ drafts: [Draft], _ results: [ResultSet], _ run: Run, in transaction: Transaction
  ) async throws -> [EntryPlace: SecretKey] {
    var places: [EntryPlace] = []
    for (draft, result) in zip(drafts, results) where run.heads[draft.roomID]?.secrecy != nil {
      guard let row = result.rows.first else { continue }
      places.append(EntryPlace(room: draft.roomID, seq: try row.integer(0)))
    }
    if places.isEmpty { return [:] }
    let found = try await transaction.pipeline(
      places.map { SecretKeyStore.keyOfDigest(of: $0.seq, in: $0.room) })
    var keys: [EntryPlace: SecretKey] = [:]
    for (place, result) in zip(places, found) {
      if let row = result.rows.first { keys[place] = SecretKey(try row.blob(0)) }
    }
    return keys
  }

  /// Whether the draft might be refused because of other entries or attachments, although it is a retry and changed
  /// them itself.
  private static func dependsOnOthers(_ draft: Draft) -> Bool {
    switch draft.body {
    case .message(let content): content.type != .text || content.extras?.replyTo != nil
    case .edit, .deletion, .reaction: true
    case .event, .erased, .unknown: false
    }
  }

  private func lookingUp(_ draft: Draft) -> Statement {
    guard let key = ClientKey(draft) else { return Statement(Self.redeliveredSQL, [.id(draft.id)]) }
    let values: [SQLValue] = [.room(key.room), .userOrNobody(key.sender), .text(key.clientID)]
    guard let clientKeys else { return Statement(Self.knownSQL, values) }
    let recent = clientKeys.seq(of: key).map { SQLValue.integer($0) }
    return Statement(Self.knownByKeySQL, values + [recent ?? .null])
  }

  /// The content of a draft that names an attachment; nil for other drafts.
  private static func claimed(by draft: Draft) -> MessageContent? {
    if case .message(let content) = draft.body, content.type != .text { content } else { nil }
  }

  /// Asks the features whether messages may have the attachments that they name, with one call per feature.
  private func claim(
    _ drafts: [Draft], _ run: inout Run, in transaction: Transaction
  ) async throws {
    var claims: [AttachmentClaim] = []
    for (index, draft) in drafts.enumerated() where run.refusals[index] == nil {
      guard let content = Self.claimed(by: draft), run.known[Key(draft)] == nil else { continue }
      claims.append(
        AttachmentClaim(
          place: index, reference: content.data, type: content.type, by: draft.from,
          room: draft.roomID, message: draft.id))
    }
    if claims.isEmpty { return }
    let verdicts = try await attachments.decide(claims, in: transaction)
    for claim in claims {
      switch verdicts[claim.place] {
      case .granted(let statements): run.claimed[claim.place] = statements
      case .refused(let code): run.refusals[claim.place] = .denied(code)
      case nil: run.refusals[claim.place] = .denied(.attachmentNotFound)
      }
    }
  }

  /// Assigns a draft its seq, or returns why it gets none.
  private func enter(_ draft: Draft, _ index: Int, _ run: inout Run) -> Outcome {
    let digest = draft.clientID == nil ? nil : EntryCoding.digest(draft.body)
    if run.looksForRepeats, let earlier = run.known[Key(draft)] {
      return .refused(earlier.digest.matches(digest) ? .known(earlier.entry) : .conflict)
    }
    if let refusal = run.refusals[index] { return .refused(refusal) }
    switch run.changes.decide(draft, head: run.heads[draft.roomID]?.lastSeq ?? 0) {
    case .enters: break
    case .refused(let code): return .refused(.denied(code))
    case .unchanged(let seq):
      run.unchanged[index] = seq
      return .refused(.unavailable)
    }
    guard let stored = EntryCoding.columns(of: draft.body),
      let entry = run.heads[draft.roomID]?.append(
        draft, run.changes.body(of: draft), at: run.now)
    else {
      return .refused(.denied(.internalError))
    }
    let secrecy = run.heads[draft.roomID]?.secrecy
    let key = secrecy != nil && Self.hasText(draft.body) ? SecretKey.make() : nil
    let storedDigest = key.map { key in digest.flatMap { key.keyed($0) } } ?? digest
    var insert = Self.entrySQL
    if run.addition != nil {
      run.addition?.entries += 1
      if let key = ClientKey(draft) {
        run.addition?.keys.append((key, entry.seq))
        if run.lookup == .refused {
          insert = Self.entryUnlessKnownSQL
          run.entryPlaces.append(run.statements.count)
        }
      }
    }
    if run.looksForRepeats {
      run.known[Key(draft)] = KnownEntry(entry: entry, digest: StoredDigest(value: digest))
    }
    run.statements.append(
      Statement(
        insert,
        [
          .room(entry.roomID), .integer(entry.seq), .id(entry.id), .integer(stored.code),
          .userOrNobody(entry.from), .time(entry.ts), entry.clientID.map { .text($0) } ?? .null,
          storedDigest.map { .uuid($0) } ?? .null, stored.target.map { .integer($0) } ?? .null,
          .integer(entry.seq - entry.ordinal), .optional(stored.extras) { .text($0) },
        ]))
    if let content = stored.content {
      let text = key?.seal(content, of: entry.id) ?? content
      run.statements.append(Statement(Self.contentSQL, [.id(entry.id), .text(text)]))
      if let key, let secrecy {
        let end =
          secrecy == 0 ? nil : Timestamp(milliseconds: entry.ts.milliseconds + secrecy * 1000)
        run.statements.append(
          SecretKeyStore.add(
            key, of: entry.id, in: entry.roomID, seq: entry.seq, expiresAt: end))
      }
    }
    if let claimed = run.claimed[index] { run.statements += claimed }
    run.statements += run.changes.apply(entry, key)
    return .entered(entry)
  }

  /// Sets the outcomes of drafts that would change nothing. Reads the entries to acknowledge, some of which this call
  /// may have written.
  private func acknowledgeUnchanged(
    _ drafts: [Draft], _ run: Run, _ outcomes: inout [Outcome], in transaction: Transaction
  ) async throws {
    if run.unchanged.isEmpty { return }
    let results = try await transaction.pipeline(
      run.unchanged.map { index, seq in
        Statement(Self.acknowledgedSQL, [.room(drafts[index].roomID), .integer(seq)])
      })
    for ((index, seq), result) in zip(run.unchanged, results) {
      guard let row = result.rows.first else { continue }
      let draft = drafts[index]
      let entry = Entry(
        roomID: draft.roomID, seq: seq, id: try row.id(0), from: draft.from, to: draft.to,
        channelID: draft.channelID, ts: try row.time(1), clientID: draft.clientID,
        ordinal: seq - (try row.integer(2)), body: draft.body)
      outcomes[index] = .refused(.known(entry))
    }
  }

  // MARK: SQL

  private static let headSQL = SQL(
    sqlite: """
      SELECT last_seq, last_ts, non_messages, access_version, secrecy FROM room_heads
      WHERE room_id = $1
      """,
    postgres: """
      SELECT last_seq, last_ts, non_messages, access_version, secrecy FROM room_heads
      WHERE room_id = $1 FOR UPDATE
      """)

  /// For a database with a unique index.
  private static let knownSQL: SQL = """
    SELECT seq, id, ts, non_messages, digest FROM entries
    WHERE room_id = $1 AND sender = $2 AND client_id = $3
    """

  /// For `ClientKeyIndex`. `$4` is the seq that it has in memory for the key, or null. The entry at that seq decides.
  private static let knownByKeySQL: SQL = """
    SELECT seq, id, ts, non_messages, digest FROM entries
    WHERE room_id = $1 AND sender = $2 AND client_id = $3 AND seq IN (
      SELECT seq FROM client_keys WHERE room_id = $1 AND sender = $2 AND client_id = $3
      UNION ALL SELECT $4)
    """

  private static let redeliveredSQL: SQL = """
    SELECT seq, id, ts, non_messages, digest FROM entries WHERE id = $1 AND client_id IS NULL
    """

  private static let acknowledgedSQL: SQL =
    "SELECT id, ts, non_messages FROM entries WHERE room_id = $1 AND seq = $2"

  private static let entrySQL: SQL = """
    INSERT INTO entries (room_id, seq, id, type, sender, ts, client_id, digest, target_seq,
      non_messages, extras)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    """

  /// For `ClientKeyIndex` and an entry that was not looked up: inserts nothing if the table contains its key.
  private static let entryUnlessKnownSQL: SQL = """
    INSERT INTO entries (room_id, seq, id, type, sender, ts, client_id, digest, target_seq,
      non_messages, extras)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11 WHERE NOT EXISTS (
      SELECT 1 FROM client_keys WHERE room_id = $1 AND sender = $5 AND client_id = $7)
    """

  private static let contentSQL: SQL =
    "INSERT INTO contents (id, data) VALUES ($1, $2)"

  private static let moveSQL: SQL = """
    UPDATE room_heads SET last_seq = $2, last_ts = $3, non_messages = $4,
      message_seq = coalesce($5, message_seq), message_ts = coalesce($6, message_ts)
    WHERE room_id = $1
    """
}
