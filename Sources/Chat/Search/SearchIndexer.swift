internal import Basics
package import Database
package import EventLoop
package import Events
internal import Synchronization

/// Keeps the search index behind the log.
///
/// In the commit of a message that would cost more than everything else in it. Instead the index follows the log, a
/// moment later: `search_heads` says up to which seq of a room that is done. A crash loses nothing, because the rooms
/// that are behind are found at the start. Until an edit or deletion is indexed the search leaves the old words out by itself,
/// since it compares each hit with the log.
package final class SearchIndexer: Sendable {
  private let index: any SQLDatabase
  private let pool: ThreadPool
  private let waiting = Mutex(Waiting())

  /// How often `follow` should be called, in milliseconds.
  package static let everyMilliseconds = 300
  /// How often nodes look for rooms that others left behind, in milliseconds.
  package static let searchMilliseconds = 60_000

  /// About the most documents, and the most rooms and bytes, that one transaction takes.
  private static let documentsPerWrite = 400
  private static let roomsPerWrite = 100
  private static let bytesPerWrite = 256 * 1024
  /// The most entries of one room per transaction, so that a large log leaves place for the others.
  private static let entriesPerRoom = 200
  /// So many times as long as a part took nothing is indexed afterwards, while others want the processors, and while they
  /// do not.
  private static let busyPause: UInt64 = 7
  private static let idlePause: UInt64 = 1
  private static let longestPauseMilliseconds = 500
  /// If splitting texts into words takes so much longer than the processor was used for it, others want it.
  private static let busyNanoseconds: UInt64 = 500_000

  /// Must be made before the first event is published.
  ///
  /// - `index`: the database with the index, in which the log can be read, too.
  /// - `pool`: splits texts into words.
  package init(index: any SQLDatabase, pool: ThreadPool, events: EventStream) {
    self.index = index
    self.pool = pool
    events.listen { [weak self] in self?.note($0) }
  }

  private func note(_ events: [Event]) {
    var rooms: Set<RoomID> = []
    for case .entry(let entry, _?) in events where Self.isRelevant(entry.body) {
      rooms.insert(entry.roomID)
    }
    if !rooms.isEmpty { waiting.withLock { $0.changed.formUnion(rooms) } }
  }

  private static func isRelevant(_ body: EntryBody) -> Bool {
    switch body {
    case .message, .edit, .deletion: true
    case .reaction, .event, .erased, .unknown: false
    }
  }

  /// The rooms of which something is not indexed.
  private struct Waiting {
    /// Something was written there on this node a moment ago.
    var changed: Set<RoomID> = []
    /// More is left than one transaction takes. They take turns, one in each transaction, so that the others need not
    /// wait for a large log.
    var behind: [RoomID] = []

    mutating func removeSome(_ count: Int) -> [RoomID] {
      var rooms: [RoomID] = []
      if !behind.isEmpty { rooms.append(behind.removeFirst()) }
      while rooms.count < count, let room = changed.popFirst() {
        if !rooms.contains(room) { rooms.append(room) }
      }
      while rooms.count < count, !behind.isEmpty {
        let room = behind.removeFirst()
        if !rooms.contains(room) { rooms.append(room) }
      }
      return rooms
    }
  }

  /// Finds the rooms that are behind: because a node ended before it had indexed them, or because they are older than the
  /// index.
  package func load() async throws {
    let rooms = try await index.read { try await SearchStore.roomsBehind(in: $0) }
    waiting.withLock { waiting in
      let known = Set(waiting.behind)
      waiting.behind += rooms.filter { !known.contains($0) }
    }
  }

  /// Indexes what was written since the last call. What fails is tried again in the next call. `pause` waits so many
  /// milliseconds.
  package func follow(pause: (Int) async -> Void) async throws {
    while true {
      let rooms = waiting.withLock { $0.removeSome(Self.roomsPerWrite) }
      if rooms.isEmpty { return }
      do {
        let found = try await read(rooms)
        let begun = Monotonic.nanoseconds
        let written = try await write(found.part)
        waiting.withLock {
          $0.changed.formUnion(found.unread)
          $0.behind += found.unfinished
          // Another node has indexed a part of them.
          $0.changed.formUnion(written.outdated)
        }
        let factor = written.wasBusy ? Self.busyPause : Self.idlePause
        let milliseconds = Int((Monotonic.nanoseconds - begun) * factor / 1_000_000)
        if milliseconds > 0 { await pause(min(milliseconds, Self.longestPauseMilliseconds)) }
      } catch {
        waiting.withLock { $0.changed.formUnion(rooms) }
        throw error
      }
    }
  }

  // MARK: Reading

  /// What one transaction writes.
  private struct Part: Sendable {
    struct Text: Sendable {
      let room: RoomID
      let seq: Int64
      let textSeq: Int64
      let ts: Timestamp
      let from: UserID?
      let text: String
    }
    var texts: [Text] = []
    var bytes = 0
    /// Messages whose text was changed or deleted.
    var changed: [(room: RoomID, seq: Int64, ts: Timestamp)] = []
    /// Rooms, each with the seq from which and the one up to which it is indexed by this part.
    var rooms: [RoomID: (from: Int64, to: Int64)] = [:]

    var documentCount: Int { texts.count + changed.count }

    /// Takes a message, unless it has no text.
    mutating func take(_ row: Row, of room: RoomID) throws {
      guard let text = try row.optional(6, row.text) else { return }
      bytes += text.utf8.count
      texts.append(
        Text(
          room: room, seq: try row.integer(0), textSeq: try row.integer(5), ts: try row.time(4),
          from: try row.userOrNobody(3), text: text))
    }
  }

  /// Reads what is to be indexed next of these rooms. Also returns the rooms for which there was no place, and those of
  /// which more is left.
  private func read(
    _ rooms: [RoomID]
  ) async throws -> (part: Part, unread: ArraySlice<RoomID>, unfinished: [RoomID]) {
    try await index.read { transaction in
      var part = Part()
      var unfinished: [RoomID] = []
      var unread = rooms[...]
      let heads = try await SearchStore.heads(of: rooms, in: transaction)
      while part.documentCount < Self.documentsPerWrite, part.bytes < Self.bytesPerWrite,
        let room = unread.popFirst()
      {
        guard let head = heads[room], head.last > head.indexed else { continue }
        let isDone = try await self.read(
          room, head, into: &part, in: transaction)
        if !isDone { unfinished.append(room) }
      }
      return (part, unread, unfinished)
    }
  }

  /// Reads what is to be indexed next of a room. Returns whether that is all.
  private func read(
    _ id: RoomID, _ head: SearchStore.Head, into part: inout Part, in transaction: Transaction
  ) async throws -> Bool {
    let from = head.indexed
    // What cannot be found needs no words.
    guard head.isSearchable else {
      part.rooms[id] = (from, head.last)
      return true
    }
    let rows = try await transaction.query(
      SearchStore.entriesSQL,
      [.room(id), .integer(from), .integer(head.last), .integer(Int64(Self.entriesPerRoom))])
    var to = from
    var targets: Set<Int64> = []
    for row in rows {
      to = try row.integer(0)
      if EntryCoding.Code.isMessage(try row.integer(1)) {
        try part.take(row, of: id)
      } else if let target = try row.optional(2, row.integer),
        EntryCoding.Code.changesText(try row.integer(1))
      {
        targets.insert(target)
      }
    }
    // Messages behind `from` are among the rows, in their present state.
    for target in targets.sorted() where target <= from {
      let rows = try await transaction.query(
        SearchStore.entriesSQL,
        [.room(id), .integer(target - 1), .integer(target), .integer(1)])
      guard let row = rows.first else { continue }
      part.changed.append((id, target, try row.time(4)))
      try part.take(row, of: id)
    }
    // A row that is lost is passed over.
    if rows.count < Self.entriesPerRoom { to = head.last }
    part.rooms[id] = (from, to)
    return to == head.last
  }

  // MARK: Writing

  /// The outcome of writing a part.
  private struct Written: Sendable {
    /// The rooms that were not taken over, because another node has indexed a part of them.
    var outdated: [RoomID] = []
    /// Whether the processors were wanted by others.
    var wasBusy = false
  }

  private func write(_ part: Part) async throws -> Written {
    if part.rooms.isEmpty { return Written() }
    let isVector = index.isShared
    let asked = Monotonic.nanoseconds
    // On a thread, because texts may be long.
    let (documents, wasBusy) = try await pool.run { _ in
      let used = ThreadClock.nanoseconds
      let documents = part.texts.map {
        SearchDocument(
          room: $0.room, seq: $0.seq, textSeq: $0.textSeq, ts: $0.ts, from: $0.from, text: $0.text,
          isVector: isVector)
      }
      let spent = ThreadClock.nanoseconds - used
      return (documents, Monotonic.nanoseconds - asked > spent + spent / 4 + Self.busyNanoseconds)
    }
    return try await index.write(.bulk(bytes: part.bytes * 2)) { transaction in
      // One node at a time, because places are given out.
      try await transaction.exclusively(on: Self.lockNumber)
      let indexed = try await SearchStore.indexedSeqs(
        of: Array(part.rooms.keys), in: transaction)
      let current = part.rooms.filter { indexed[$0.key] ?? 0 == $0.value.from }
      try await Self.write(
        documents.filter { current[$0.room] != nil },
        removing: part.changed.filter { current[$0.room] != nil }, in: transaction)
      _ = try await transaction.pipeline(
        current.sorted { $0.key < $1.key }.map {
          SearchStore.setIndexedSeq($0.value.to, of: $0.key)
        })
      return Written(
        outdated: part.rooms.keys.filter { current[$0] == nil }, wasBusy: wasBusy)
    }
  }

  private static let lockNumber: Int64 = 7_237_955_317_803

  private static func write(
    _ documents: [SearchDocument],
    removing changed: [(room: RoomID, seq: Int64, ts: Timestamp)], in transaction: Transaction
  ) async throws {
    _ = try await transaction.pipeline(
      changed.map { SearchStore.remove($0.seq, of: $0.room, at: $0.ts) })
    // In the order of places: FTS5 writes whatever it has gathered when a lower one comes.
    let sorted = documents.sorted { ($0.ts, $0.room, $0.seq) < ($1.ts, $1.room, $1.seq) }
    guard let first = sorted.first else { return }
    let last = try await SearchStore.lastPlace(behind: SearchPlace.first(at: first.ts), transaction)
    var next: Int64 = 0
    var moment: Timestamp?
    var statements: [Statement] = []
    for document in sorted {
      if document.ts != moment {
        moment = document.ts
        next = max(next, SearchPlace.first(at: document.ts))
        // Mostly everything is newer than what is indexed.
        if let last, last >= next { next = try await firstFree(from: next, in: transaction) }
      }
      statements.append(SearchStore.add(document, at: next))
      next += 1
      // A moment with more documents goes on in the next one, whose places may be taken.
      if next % SearchPlace.perMillisecond == 0 {
        _ = try await transaction.pipeline(statements)
        statements = []
        next = try await firstFree(from: next, in: transaction)
      }
    }
    _ = try await transaction.pipeline(statements)
  }

  /// Returns the first place from this one on behind which all of its moment are free.
  private static func firstFree(
    from place: Int64, in transaction: Transaction
  ) async throws -> Int64 {
    var place = place
    while true {
      let first = place - place % SearchPlace.perMillisecond
      let last = try await SearchStore.lastPlace(
        behind: first, before: first + SearchPlace.perMillisecond, transaction)
      place = max(place, (last ?? -1) + 1)
      if place < first + SearchPlace.perMillisecond { return place }
    }
  }
}
