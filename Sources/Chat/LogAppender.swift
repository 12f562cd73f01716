internal import Access
internal import Accounts
package import Basics
internal import Crypto
package import Database
package import Events

/// The one place that gives seqs. The group commit of messages uses it, and so does any transaction of a
/// feature: a rule and the event that tells of it are one commit.
///
/// In the transaction, per room and in ascending order of rooms: the head is read (and locked, on
/// Postgres), what each draft's right rests on is looked at again, those that are in the log already are
/// found by their client id (or their own, where they have none), the new ones get the next seqs, and
/// the head moves. After the commit the entries are published in order, with a receipt for every
/// other draft that has an origin.
package struct LogAppender: Sendable {
  private let events: EventStream
  private let clientKeys: ClientKeyIndex?
  private let attachments: AttachmentClaims

  /// `clientKeys`: the index of the database that will be written to; nil where that has one of its own.
  /// `attachments`: what features attach to messages, each responsible for types of its own.
  package init(
    events: EventStream, clientKeys: ClientKeyIndex?, attachments: [any Attachments] = []
  ) {
    self.events = events
    self.clientKeys = clientKeys
    self.attachments = AttachmentClaims(attachments)
  }

  /// What became of a draft.
  package enum Outcome: Sendable {
    case entered(Entry)
    case refused(Receipt.Outcome)
  }

  /// Which drafts are looked up before they are written.
  enum Lookup {
    /// All: for drafts of which some may be in the log already.
    case all
    /// Those that will not be written anyway, and those that claim something. Where any other draft is
    /// in the log already, or comes twice, writing it fails, and so does the transaction: it is to be run
    /// again with `all`. Most commits have no retry in them, and this saves a statement for each of their
    /// drafts, and remembering it.
    case refused
  }

  /// Appends drafts in order, in a transaction of whoever calls; returns what became of each. Throws
  /// what the database throws; nothing may be kept then.
  @discardableResult
  package func append(
    _ drafts: [Draft], at now: Timestamp = .now, in transaction: Transaction
  ) async throws -> [Outcome] {
    try await append(drafts, at: now, lookup: .all, hasEnded: { _ in false }, in: transaction)
  }

  /// As above. `hasEnded` tells whether a session that a draft was granted by has ended since.
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
    var outcomes: [Outcome] = []
    outcomes.reserveCapacity(drafts.count)
    for index in drafts.indices { outcomes.append(enter(drafts[index], index, &run)) }
    for (roomID, head) in run.heads where head.hasMoved {
      run.addition?.heads.append((roomID, head.lastSeq))
      run.statements.append(
        Statement(
          Self.moveSQL,
          [
            .room(roomID), .integer(head.lastSeq), .time(head.lastTime),
            .integer(head.nonMessages),
          ]))
    }
    if let clientKeys, let addition = run.addition {
      // A body that its database gave up must not change what others rest on.
      try transaction.requireOpen()
      try clientKeys.add(addition)
    }
    if !run.statements.isEmpty {
      let results = try await transaction.pipeline(run.statements)
      for place in run.entryPlaces where results[place].changes == 0 { throw Self.isKnown }
    }
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

  // MARK: What is known

  private struct Head {
    var lastSeq: Int64
    var lastTime: Timestamp
    var nonMessages: Int64
    let accessVersion: Int64
    var hasMoved = false

    /// Moves on by an entry.
    mutating func append(_ draft: Draft, at now: Timestamp) -> Entry {
      lastSeq += 1
      lastTime = max(lastTime, now)
      if !draft.body.isMessage { nonMessages += 1 }
      hasMoved = true
      return Entry(
        roomID: draft.roomID, seq: lastSeq, id: draft.id, from: draft.from,
        channelID: draft.channelID, ts: lastTime, clientID: draft.clientID,
        ordinal: lastSeq - nonMessages, body: draft.body)
    }
  }

  /// An entry that is in the log.
  private struct KnownEntry {
    let entry: Entry
    /// Nil where its id is the key: that names one entry only.
    let digest: UUID?
  }

  /// What makes a draft the same as an earlier one.
  private enum Key: Hashable {
    case client(ClientKey)
    case id(MessageID)

    init(_ draft: Draft) { self = ClientKey(draft).map { .client($0) } ?? .id(draft.id) }
  }

  /// A draft that was not looked up is in the log already, or may be.
  static let isKnown = DatabaseError(
    kind: .constraint, message: "an entry with this client id is in the log")

  /// One call of `append`, as far as it has come.
  private struct Run {
    let now: Timestamp
    let lookup: Lookup
    var heads: [RoomID: Head] = [:]
    /// Why a draft will not be written unless it is in the log already; by its place.
    var refusals: [Int: Receipt.Outcome] = [:]
    var known: [Key: KnownEntry] = [:]
    /// Whether each draft that enters is kept in `known`, for one that comes with the same key. Where none
    /// was looked up, the indexes find that.
    var looksForRepeats = false
    /// What goes with a draft into the log, by its place.
    var claimed: [Int: [Statement]] = [:]
    var statements: [Statement] = []
    /// Which of the statements insert nothing where the client key is in the log.
    var entryPlaces: [Int] = []
    /// What the index of client keys has to know; nil where the database has one of its own.
    var addition: ClientKeyIndex.Addition?
  }

  // MARK: Steps

  /// Reads the heads, and finds which drafts may not be written any more.
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

  /// Locked in ascending order, so that two nodes never wait for each other. A deleted room has a head,
  /// but a version that no draft was checked under.
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
        accessVersion: try row.integer(3))
    }
    return heads
  }

  /// The versions of what writers belong to, where their right rests on it: whoever takes a membership
  /// away waits for this commit, or comes before it.
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
      // A retry must not claim again what its message has.
      run.lookup == .all || run.refusals[$0] != nil || Self.claimed(by: drafts[$0]) != nil
    }
    if asked.isEmpty { return }
    run.looksForRepeats = true
    let results = try await transaction.pipeline(asked.map { lookingUp(drafts[$0]) })
    for (index, result) in zip(asked, results) {
      guard let row = result.rows.first else { continue }
      let draft = drafts[index]
      let seq = try row.integer(0)
      let digest = try row.optional(4, row.uuid)
      // Equal digests mean equal content: a retry's body is the stored body. Of several drafts with this
      // key it is the retry that says so.
      let key = Key(draft)
      if run.known[key] != nil, digest != EntryCoding.digest(draft.body) { continue }
      let entry = Entry(
        roomID: draft.roomID, seq: seq, id: try row.id(1), from: draft.from,
        channelID: draft.channelID, ts: try row.time(2), clientID: draft.clientID,
        ordinal: seq - (try row.integer(3)), body: draft.body)
      run.known[key] = KnownEntry(entry: entry, digest: digest)
    }
  }

  private func lookingUp(_ draft: Draft) -> Statement {
    guard let key = ClientKey(draft) else { return Statement(Self.redeliveredSQL, [.id(draft.id)]) }
    let values: [SQLValue] = [.room(key.room), .sender(key.sender), .text(key.clientID)]
    guard let clientKeys else { return Statement(Self.knownSQL, values) }
    let recent = clientKeys.seq(of: key).map { SQLValue.integer($0) }
    return Statement(Self.knownByKeySQL, values + [recent ?? .null])
  }

  /// The content of a draft that names something of a feature's.
  private static func claimed(by draft: Draft) -> MessageContent? {
    if case .message(let content) = draft.body, content.type != .text { content } else { nil }
  }

  /// Asks the features whether messages may have what they name. One call for all of a feature's.
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

  /// Gives a draft its seq, or says why not.
  private func enter(_ draft: Draft, _ index: Int, _ run: inout Run) -> Outcome {
    let digest = draft.clientID == nil ? nil : EntryCoding.digest(draft.body)
    if run.looksForRepeats, let earlier = run.known[Key(draft)] {
      return .refused(earlier.digest == digest ? .known(earlier.entry) : .conflict)
    }
    if let refusal = run.refusals[index] { return .refused(refusal) }
    guard let stored = EntryCoding.columns(of: draft.body),
      let entry = run.heads[draft.roomID]?.append(draft, at: run.now)
    else {
      return .refused(.denied(.internalError))
    }
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
    if run.looksForRepeats { run.known[Key(draft)] = KnownEntry(entry: entry, digest: digest) }
    run.statements.append(
      Statement(
        insert,
        [
          .room(entry.roomID), .integer(entry.seq), .id(entry.id), .integer(stored.code),
          .sender(entry.from), .time(entry.ts), entry.clientID.map { .text($0) } ?? .null,
          digest.map { .uuid($0) } ?? .null, stored.target.map { .integer($0) } ?? .null,
          .integer(entry.seq - entry.ordinal),
        ]))
    if let content = stored.content {
      run.statements.append(Statement(Self.contentSQL, [.id(entry.id), .text(content)]))
    }
    if let claimed = run.claimed[index] { run.statements += claimed }
    return .entered(entry)
  }

  // MARK: SQL

  private static let headSQL = SQL(
    sqlite: """
      SELECT last_seq, last_ts, non_messages, access_version FROM room_heads WHERE room_id = $1
      """,
    postgres: """
      SELECT last_seq, last_ts, non_messages, access_version FROM room_heads WHERE room_id = $1
      FOR UPDATE
      """)

  /// Where the database has a unique index.
  private static let knownSQL: SQL = """
    SELECT seq, id, ts, non_messages, digest FROM entries
    WHERE room_id = $1 AND sender = $2 AND client_id = $3
    """

  /// With `ClientKeyIndex`, which may have named a seq; the entry there says whether it is this one.
  private static let knownByKeySQL: SQL = """
    SELECT seq, id, ts, non_messages, digest FROM entries
    WHERE room_id = $1 AND sender = $2 AND client_id = $3 AND seq IN (
      SELECT seq FROM client_keys WHERE room_id = $1 AND sender = $2 AND client_id = $3
      UNION ALL SELECT $4)
    """

  private static let redeliveredSQL: SQL = """
    SELECT seq, id, ts, non_messages, digest FROM entries WHERE id = $1 AND client_id IS NULL
    """

  private static let entrySQL: SQL = """
    INSERT INTO entries (room_id, seq, id, type, sender, ts, client_id, digest, target_seq,
      non_messages)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    """

  /// With `ClientKeyIndex`, for an entry that was not looked up: inserts nothing where the table has its
  /// key.
  private static let entryUnlessKnownSQL: SQL = """
    INSERT INTO entries (room_id, seq, id, type, sender, ts, client_id, digest, target_seq,
      non_messages)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 WHERE NOT EXISTS (
      SELECT 1 FROM client_keys WHERE room_id = $1 AND sender = $5 AND client_id = $7)
    """

  private static let contentSQL: SQL =
    "INSERT INTO contents (id, data) VALUES ($1, $2)"

  private static let moveSQL: SQL = """
    UPDATE room_heads SET last_seq = $2, last_ts = $3, non_messages = $4 WHERE room_id = $1
    """
}
