package import Basics
internal import Crypto
package import Database
package import Events
internal import Synchronization

/// The log of every room: `append` is the one way in.
///
/// Drafts of all loops gather here; each commit takes those that wait. In it, per room and in
/// ascending order of rooms: the head is read (and locked, on Postgres), every draft's client id, or
/// its own where it has none, is looked up, those that are new get the next seqs, and the head moves. What is published after the
/// commit are the entries in order, and a receipt for every draft that made none.
package final class MessageLog: Ingest, GatheredWork {
  private let database: any SQLDatabase
  private let events: EventStream
  private let metrics: ChatMetrics
  private struct Waiting {
    var drafts: [Draft] = []
    var bytes = 0
  }
  private let waiting = Mutex(Waiting())
  private let outstandingCount = Atomic<Int>(0)

  /// Drafts in one commit. More would only make the first of them wait.
  private static let batchSize = 2048
  /// Drafts that may wait in all, and the bytes of their content; more are answered as unavailable.
  private static let maximumWaiting = 100_000
  private static let maximumWaitingBytes = 64 * 1024 * 1024

  package init(database: any SQLDatabase, events: EventStream, metrics: ChatMetrics) {
    self.database = database
    self.events = events
    self.metrics = metrics
    database.attach(self)
  }

  // MARK: Ingest

  package func submit(_ drafts: [Draft]) {
    guard !drafts.isEmpty else { return }
    outstandingCount.wrappingAdd(drafts.count, ordering: .relaxed)
    let bytes = drafts.reduce(0) { $0 + $1.data.utf8.count }
    let hasRoom = waiting.withLock { waiting in
      guard waiting.drafts.count + drafts.count <= Self.maximumWaiting,
        waiting.bytes + bytes <= Self.maximumWaitingBytes
      else { return false }
      waiting.drafts.append(contentsOf: drafts)
      waiting.bytes += bytes
      return true
    }
    if hasRoom { database.signalGatheredWork() } else { publishUnavailable(drafts) }
  }

  package var outstanding: Int { outstandingCount.load(ordering: .relaxed) }

  // MARK: GatheredWork

  package func write(in transaction: Transaction) async -> GatheredOutcome {
    let drafts = take()
    do {
      let outcome = try await append(drafts, at: .now, in: transaction)
      return GatheredOutcome { [self] failure in
        if failure == nil {
          publish(outcome, count: drafts.count)
        } else {
          publishUnavailable(drafts)
        }
      }
    } catch {
      return GatheredOutcome(failure: error) { [self] _ in publishUnavailable(drafts) }
    }
  }

  package func fail(_ error: any Error) { publishUnavailable(take()) }

  private func take() -> [Draft] {
    let (taken, hasMore) = waiting.withLock { waiting in
      let taken = Array(waiting.drafts.prefix(Self.batchSize))
      waiting.drafts.removeFirst(taken.count)
      waiting.bytes -= taken.reduce(0) { $0 + $1.data.utf8.count }
      return (taken, !waiting.drafts.isEmpty)
    }
    if hasMore { database.signalGatheredWork() }
    return taken
  }

  private func publish(_ outcome: [Event], count: Int) {
    guard count > 0 else { return }
    outstandingCount.wrappingAdd(-count, ordering: .relaxed)
    metrics.messageBatches.observe(count)
    events.publish(outcome)
  }

  private func publishUnavailable(_ drafts: [Draft]) {
    guard !drafts.isEmpty else { return }
    outstandingCount.wrappingAdd(-drafts.count, ordering: .relaxed)
    events.publish(drafts.map { receipt($0, .unavailable) })
  }

  private func receipt(_ draft: Draft, _ outcome: Receipt.Outcome) -> Event {
    .receipt(Receipt(draft, outcome))
  }

  // MARK: append

  private struct Head {
    var lastSeq: Int64
    var lastTime: Timestamp
    let accessVersion: Int64
    var hasMoved = false
  }

  /// A message that is in the log.
  private struct Known {
    let entry: Entry
    /// Nil where its id is the key: that names one message only.
    let digest: [UInt8]?
  }

  /// What makes a draft the same as an earlier one.
  private enum Key: Hashable {
    /// Bytes: texts that only look alike are different keys, as they are to the database.
    case clientID(RoomID, UserID, [UInt8])
    case id(MessageID)

    init(_ draft: Draft) {
      if let clientID = draft.clientID {
        self = .clientID(draft.roomID, draft.from, Array(clientID.utf8))
      } else {
        self = .id(draft.id)
      }
    }
  }

  private static let headSQL = SQL(
    sqlite: "SELECT last_seq, last_ts, access_version FROM room_heads WHERE room_id = $1",
    postgres:
      "SELECT last_seq, last_ts, access_version FROM room_heads WHERE room_id = $1 FOR UPDATE")

  private static let knownSQL: SQL = """
    SELECT e.seq, e.id, e.type, e.ts, e.digest FROM entries e
    WHERE e.room_id = $1 AND e.sender = $2 AND e.client_id = $3
    """

  private static let redeliveredSQL: SQL = """
    SELECT e.seq, e.id, e.type, e.ts, e.digest FROM entries e WHERE e.id = $1
    """

  private static let entrySQL: SQL = """
    INSERT INTO entries (room_id, seq, id, type, sender, ts, client_id, digest)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    """

  private static let contentSQL: SQL =
    "INSERT INTO contents (id, data) VALUES ($1, $2)"

  private static let moveSQL: SQL =
    "UPDATE room_heads SET last_seq = $2, last_ts = $3 WHERE room_id = $1"

  /// Appends drafts in order; returns what to publish, one event per draft, in order.
  private func append(
    _ drafts: [Draft], at now: Timestamp, in transaction: Transaction
  ) async throws -> [Event] {
    if drafts.isEmpty { return [] }
    var heads = try await lockHeads(drafts, in: transaction)
    var known = try await lookUp(drafts, in: transaction)
    var events: [Event] = []
    events.reserveCapacity(drafts.count)
    var statements: [Statement] = []
    statements.reserveCapacity(drafts.count * 2 + heads.count)
    for draft in drafts {
      let digest = draft.clientID == nil ? nil : Self.digest(draft)
      let key = Key(draft)
      if let earlier = known[key] {
        events.append(receipt(draft, earlier.digest == digest ? .known(earlier.entry) : .conflict))
        continue
      }
      let version: Int64
      switch draft.access {
      case .granted(let checked): version = checked
      case .denied(let code):
        events.append(receipt(draft, .denied(code)))
        continue
      }
      guard var head = heads[draft.roomID], head.accessVersion == version else {
        events.append(receipt(draft, .stale))
        continue
      }
      head.lastSeq += 1
      head.lastTime = max(head.lastTime, now)
      head.hasMoved = true
      heads[draft.roomID] = head
      let entry = Entry(
        roomID: draft.roomID, seq: head.lastSeq, id: draft.id, type: draft.type, from: draft.from,
        channelID: draft.channelID, data: draft.data, ts: head.lastTime, clientID: draft.clientID)
      known[key] = Known(entry: entry, digest: digest)
      statements.append(
        Statement(
          Self.entrySQL,
          [
            .room(entry.roomID), .integer(entry.seq), .id(entry.id), .integer(entry.type.code),
            .id(entry.from), .time(entry.ts), .optional(entry.clientID) { .text($0) },
            .optional(digest) { .blob($0) },
          ]))
      statements.append(
        Statement(Self.contentSQL, [.id(entry.id), .text(entry.data)]))
      events.append(.entry(entry, origin: draft.origin))
    }
    for (roomID, head) in heads where head.hasMoved {
      statements.append(
        Statement(Self.moveSQL, [.room(roomID), .integer(head.lastSeq), .time(head.lastTime)]))
    }
    if !statements.isEmpty { _ = try await transaction.pipeline(statements) }
    return events
  }

  /// The heads of the drafts' rooms, locked in ascending order so that two nodes never wait for each
  /// other. A deleted room has a head, but a version that no draft was checked under.
  private func lockHeads(
    _ drafts: [Draft], in transaction: Transaction
  ) async throws -> [RoomID: Head] {
    let rooms = Set(drafts.map(\.roomID)).sorted()
    let results = try await transaction.pipeline(rooms.map { Statement(Self.headSQL, [.room($0)]) })
    var heads: [RoomID: Head] = [:]
    heads.reserveCapacity(rooms.count)
    for (room, result) in zip(rooms, results) {
      guard let row = result.rows.first else { continue }
      heads[room] = Head(
        lastSeq: try row.integer(0), lastTime: try row.time(1), accessVersion: try row.integer(2))
    }
    return heads
  }

  private func lookUp(
    _ drafts: [Draft], in transaction: Transaction
  ) async throws -> [Key: Known] {
    let results = try await transaction.pipeline(
      drafts.map { draft in
        guard let clientID = draft.clientID else {
          return Statement(Self.redeliveredSQL, [.id(draft.id)])
        }
        return Statement(
          Self.knownSQL, [.room(draft.roomID), .id(draft.from), .text(clientID)])
      })
    var known: [Key: Known] = [:]
    for (draft, result) in zip(drafts, results) {
      guard let row = result.rows.first else { continue }
      // Equal digests mean equal content, so a retry's data is the stored data.
      let entry = Entry(
        roomID: draft.roomID, seq: try row.integer(0), id: try row.id(1), type: draft.type,
        from: draft.from, channelID: draft.channelID, data: draft.data, ts: try row.time(3),
        clientID: draft.clientID)
      known[Key(draft)] = Known(entry: entry, digest: try row.optional(4, row.blob))
    }
    return known
  }

  /// What makes two messages the same: type and data.
  private static func digest(_ draft: Draft) -> [UInt8] {
    Hash.blake2b128(Array(draft.type.rawValue.utf8) + [0] + Array(draft.data.utf8))
  }
}

/// What chat tells of itself.
package struct ChatMetrics: Sendable {
  package let messageBatches: Histogram

  package init(_ metrics: Metrics) {
    messageBatches = metrics.histogram(
      "martlet_message_batch", "Messages that one commit took into the log."
    ) {
      Histogram(bounds: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048])
    }
  }
}
