internal import Basics
package import Database
package import EventLoop
package import Events
internal import Synchronization

/// Keeps the search index behind the log.
///
/// In the commit of a message that would cost more than everything else in it. Instead the index follows the log, a moment later:
/// `search_heads` says up to which seq of a room that is done. A crash loses nothing, because the rooms that are behind
/// are found at the start. An edit or deletion removes the old words in its own commit (`MessageChanges`); the new ones
/// are added here, when the indexer comes to the entry of the edit.
package final class SearchIndexer: Sendable {
  private let database: any SQLDatabase
  private let directory: RoomDirectory
  private let pool: ThreadPool
  /// The rooms in which something was written on this node that is not indexed yet.
  private let changed = Mutex<Set<RoomID>>([])

  /// How often `follow` should be called, in milliseconds.
  package static let everyMilliseconds = 300
  /// How often nodes look for rooms that others left behind, in milliseconds.
  package static let searchMilliseconds = 60_000

  /// What one transaction takes at most. It must not keep the messages waiting that are written meanwhile.
  private static let entriesPerRead: Int64 = 100
  private static let documentsPerWrite = 200
  private static let bytesPerWrite = 128 * 1024
  /// If a transaction had to wait for longer than this, the database is busy.
  private static let busyMilliseconds: Int64 = 3
  /// So many times as long as a transaction takes there is none afterwards, while the database is busy, and while it is not.
  private static let busyPause: Int64 = 15
  private static let idlePause: Int64 = 1

  /// Must be made before the first event is published.
  package init(
    database: any SQLDatabase, directory: RoomDirectory, pool: ThreadPool, events: EventStream
  ) {
    self.database = database
    self.directory = directory
    self.pool = pool
    events.listen { [weak self] in self?.note($0) }
  }

  private func note(_ events: [Event]) {
    var rooms: Set<RoomID> = []
    for case .entry(let entry, _?) in events where Self.isRelevant(entry.body) {
      rooms.insert(entry.roomID)
    }
    if !rooms.isEmpty { changed.withLock { $0.formUnion(rooms) } }
  }

  private static func isRelevant(_ body: EntryBody) -> Bool {
    switch body {
    case .message, .edit, .deletion: true
    case .reaction, .event, .erased, .unknown: false
    }
  }

  /// Finds the rooms that are behind: because a node ended before it had indexed them, or because they are older than the
  /// index.
  package func load() async throws {
    let rooms = try await database.read { try await SearchStore.roomsBehind(in: $0) }
    changed.withLock { $0.formUnion(rooms) }
  }

  /// Indexes what was written since the last call. What fails is tried again in the next call. `pause` waits so many
  /// milliseconds.
  package func follow(pause: (Int) async -> Void) async throws {
    var waiting = changed.withLock { changed in
      defer { changed = [] }
      return changed.sorted()
    }[...]
    do {
      while !waiting.isEmpty {
        var part = Part()
        while !part.isFull, let room = waiting.first, part.rooms[room] == nil {
          let isDone = try await read(room, into: &part)
          waiting.removeFirst()
          // What is left of a large log comes after the other rooms, so that they need not wait for it.
          if !isDone { waiting.append(room) }
        }
        let milliseconds = try await write(part)
        if milliseconds > 0 { await pause(milliseconds) }
      }
    } catch {
      let left = waiting
      changed.withLock { $0.formUnion(left) }
      throw error
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
    var changed: [(room: RoomID, seq: Int64)] = []
    /// Rooms, each with the seq from which and the one up to which it is indexed by this part.
    var rooms: [RoomID: (from: Int64, to: Int64)] = [:]

    var isFull: Bool {
      texts.count + changed.count >= SearchIndexer.documentsPerWrite
        || bytes >= SearchIndexer.bytesPerWrite || rooms.count >= SearchIndexer.documentsPerWrite
    }

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

  /// Reads what is to be indexed next of a room. Returns whether that is all.
  private func read(_ id: RoomID, into part: inout Part) async throws -> Bool {
    let found = try await database.read { transaction -> (Part, Bool) in
      var found = Part()
      let from = try await SearchStore.indexedSeq(of: id, in: transaction)
      let head = try await RoomStore.lastSeqs([id], in: transaction)[id] ?? 0
      guard head > from else { return (found, true) }
      let room = try await self.directory.read(id, in: transaction)
      // What cannot be found needs no words: rooms that are deleted or secret.
      guard let room, room.kind != .secret else {
        found.rooms[id] = (from, head)
        return (found, true)
      }
      let rows = try await transaction.query(
        SearchStore.entriesSQL,
        [.room(id), .integer(from), .integer(head), .integer(Self.entriesPerRead)])
      var to = from
      var targets: Set<Int64> = []
      for row in rows {
        to = try row.integer(0)
        if EntryCoding.Code.isMessage(try row.integer(1)) {
          try found.take(row, of: id)
        } else if let target = try row.optional(2, row.integer),
          EntryCoding.Code.changesText(try row.integer(1))
        {
          targets.insert(target)
        }
      }
      for target in targets.sorted() {
        found.changed.append((id, target))
        // Messages behind `from` are among the rows.
        guard target <= from else { continue }
        let rows = try await transaction.query(
          SearchStore.entriesSQL,
          [.room(id), .integer(target - 1), .integer(target), .integer(1)])
        if let row = rows.first { try found.take(row, of: id) }
      }
      // A row that is lost is passed over.
      if rows.count < Int(Self.entriesPerRead) { to = head }
      found.rooms[id] = (from, to)
      return (found, to == head)
    }
    part.texts += found.0.texts
    part.bytes += found.0.bytes
    part.changed += found.0.changed
    part.rooms.merge(found.0.rooms) { $1 }
    return found.1
  }

  // MARK: Writing

  /// Returns for how long to pause, in milliseconds.
  private func write(_ part: Part) async throws -> Int {
    if part.rooms.isEmpty { return 0 }
    // On a thread, because texts may be long.
    let documents = try await pool.run { _ in
      part.texts.map {
        SearchDocument(
          room: $0.room, seq: $0.seq, textSeq: $0.textSeq, ts: $0.ts, from: $0.from, text: $0.text)
      }
    }
    let asked = Monotonic.milliseconds
    let times = try await database.write(.bulk(bytes: part.bytes * 2)) { transaction in
      let begun = Monotonic.milliseconds
      // One node at a time, because places are given out.
      try await transaction.exclusively(on: Self.lockNumber)
      var current: Set<RoomID> = []
      for (room, range) in part.rooms
      where try await SearchStore.indexedSeq(of: room, in: transaction) == range.from {
        current.insert(room)
      }
      try await Self.write(
        documents.filter { current.contains($0.room) },
        removing: part.changed.filter { current.contains($0.room) }, in: transaction)
      _ = try await transaction.pipeline(
        part.rooms.filter { current.contains($0.key) }.sorted { $0.key < $1.key }.map {
          SearchStore.setIndexedSeq($0.value.to, of: $0.key)
        })
      return (begun: begun, ended: Monotonic.milliseconds)
    }
    let isBusy = times.begun - asked > Self.busyMilliseconds
    let pause = isBusy ? Self.busyPause : Self.idlePause
    return Int((times.ended - times.begun) * pause)
  }

  private static let lockNumber: Int64 = 7_237_955_317_803

  private static func write(
    _ documents: [SearchDocument], removing changed: [(room: RoomID, seq: Int64)],
    in transaction: Transaction
  ) async throws {
    _ = try await transaction.pipeline(changed.map { SearchStore.remove($0.seq, of: $0.room) })
    // In the order of places: FTS5 writes whatever it has gathered when a lower one comes.
    let sorted = documents.sorted { ($0.ts, $0.room, $0.seq) < ($1.ts, $1.room, $1.seq) }
    var next: Int64 = 0
    var moment: Timestamp?
    var statements: [Statement] = []
    for document in sorted {
      if document.ts != moment {
        moment = document.ts
        next = try await firstFree(
          from: max(next, SearchPlace.first(at: document.ts)), in: transaction)
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
      let result = try await transaction.pipeline([SearchStore.lastPlace(from: first)])
      let last = try result.first?.rows.first.flatMap { try $0.optional(0, $0.integer) }
      place = max(place, (last ?? -1) + 1)
      if place < first + SearchPlace.perMillisecond { return place }
    }
  }
}
