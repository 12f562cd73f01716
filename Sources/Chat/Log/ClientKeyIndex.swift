internal import Basics
package import Database
internal import Events
internal import Synchronization

/// The idempotency key of a message: room, sender and `client_id`.
struct ClientKey: Hashable {
  let room: RoomID
  /// Nil if the server is the author.
  let sender: UserID?
  let clientID: String

  init(room: RoomID, sender: UserID?, clientID: String) {
    self.room = room
    self.sender = sender
    self.clientID = clientID
  }

  /// Nil if the draft has no `client_id`.
  init?(_ draft: Draft) {
    guard let clientID = draft.clientID else { return nil }
    self.init(room: draft.roomID, sender: draft.from, clientID: clientID)
  }

  /// Client ids are compared byte by byte, as databases do: texts that are only canonically equivalent differ.
  static func == (left: Self, right: Self) -> Bool {
    left.room == right.room && left.sender == right.sender
      && left.clientID.utf8.count == right.clientID.utf8.count
      && left.clientID.utf8.elementsEqual(right.clientID.utf8)
  }

  func hash(into hasher: inout Hasher) {
    hasher.combine(room)
    hasher.combine(sender)
    var text = clientID
    text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
  }
}

/// The index of the log by client key, for SQLite.
///
/// Keys arrive in random order, so inserting each into a B-tree at once changes a page per message. That was 7 of the
/// 25 us that a message cost the writer. Instead, the newest keys are kept in memory and moved to the table
/// `client_keys` in bulk, room by room, so that a page takes many. A key is in the table, in memory, or for a while
/// in both.
///
/// A crash loses nothing: `room_heads.keyed_seq` says up to which seq a room's keys are in the table, and at the
/// start the others are read from the entries.
///
/// Memory may also hold keys of failed transactions. So a key that is found there *may* be in the log, at that seq;
/// the entry decides. A key that is in neither place is not in the log.
///
/// On Postgres, where several nodes write, a unique index does the same.
package final class ClientKeyIndex: Sendable {
  /// What was written between two merges.
  private struct Generation {
    var seqs: [ClientKey: Int64] = [:]
    /// For each room the seq up to which it was written, with and without client ids.
    var heads: [RoomID: Int64] = [:]
    var entries = 0
  }
  private struct State {
    var newest = Generation()
    /// What is being moved to the table; nil while no merge runs.
    var merging: Generation?
    var isMergeRunning = false
  }
  private let state = Mutex(State())
  private let database: any SQLDatabase
  private let entriesPerMerge: Int

  /// Entries per transaction of a merge, which takes some milliseconds of the writer's time.
  private static let entriesPerSlice = 1000
  /// The number of transactions that a merge should take at most. If more entries wait, each transaction takes more,
  /// because a merge must keep up with the writes.
  private static let slicesPerMerge = 16
  /// The most entries per transaction, so that a merge does not block the writer.
  private static let maximumPerSlice = 4000
  /// The most rooms per transaction. Each costs a read even if nothing is left to do.
  private static let roomsPerSlice = 500
  /// The approximate weight of an entry among the waiting writes, in bytes.
  private static let bytesPerEntry = 100

  /// Nil if the database has a unique index for this. Call `load` before the first append.
  ///
  /// A larger `entriesPerMerge` takes more memory (about 150 bytes a key) and a longer start. A smaller one puts
  /// fewer keys into each page.
  package init?(_ database: any SQLDatabase, entriesPerMerge: Int = 16_384) {
    if database.isShared { return nil }
    self.database = database
    self.entriesPerMerge = entriesPerMerge
  }

  /// Reads the keys that are not in the table yet.
  package func load() async throws {
    let read = try await database.read { transaction in
      var read = Generation()
      for row in try await transaction.query(Self.unmergedHeadsSQL) {
        let seq = try row.integer(1)
        read.heads[try row.room(0)] = seq
        read.entries += Int(seq - (try row.integer(2)))
      }
      for row in try await transaction.query(Self.unmergedSQL) {
        let key = ClientKey(
          room: try row.room(0), sender: try row.userOrNobody(1), clientID: try row.text(2))
        read.seqs[key] = try row.integer(3)
      }
      return read
    }
    state.withLock { $0.newest = read }
  }

  // MARK: In the writer's transactions

  /// The keys that one call of the appender writes.
  struct Addition {
    /// The keys of entries with a client id, with their seqs.
    var keys: [(key: ClientKey, seq: Int64)] = []
    /// The last seq in each room.
    var heads: [(room: RoomID, seq: Int64)] = []
    /// The number of all entries, with and without client ids.
    var entries = 0
    /// Whether each key was looked up in the log and not found.
    let areLookedUp: Bool
  }

  /// Adds what is being written, in one step. If heads and keys were added one by one, a merge that begins in between
  /// would forget keys that it did not take.
  ///
  /// Throws `LogAppender.isKnown` if a key was not looked up and is known: the log may contain it, so nothing may be
  /// written. A known key keeps its seq.
  func add(_ addition: Addition) throws {
    let areNew = state.withLock { state in
      var areNew = true
      for (key, seq) in addition.keys {
        if addition.areLookedUp {
          state.newest.seqs[key] = seq
        } else if state.merging?.seqs[key] != nil {
          areNew = false
        } else if let known = state.newest.seqs.updateValue(seq, forKey: key) {
          state.newest.seqs[key] = known
          areNew = false
        }
      }
      guard areNew else { return false }
      state.newest.entries += addition.entries
      for head in addition.heads {
        // Never lowered. A seq that is too high does no harm; with one that is too low, a merge would forget keys that
        // it did not move.
        state.newest.heads[head.room] = max(state.newest.heads[head.room] ?? 0, head.seq)
      }
      return true
    }
    if !areNew { throw LogAppender.isKnown }
  }

  /// The seq where the entry with this key may be, unless the key is in the table.
  func seq(of key: ClientKey) -> Int64? {
    state.withLock { $0.newest.seqs[key] ?? $0.merging?.seqs[key] }
  }

  // MARK: Merging

  /// Whether a merge is unfinished, or enough was written to make one worthwhile.
  package var isMergeDue: Bool {
    state.withLock { $0.merging != nil || $0.newest.entries >= entriesPerMerge }
  }

  /// Moves the keys in memory to the table, in short transactions, with a call of `pause` in between. After a failure
  /// the next call continues. Only one merge runs at a time; a call during another does nothing.
  package func merge(pause: () async -> Void) async throws {
    guard let generation = begin() else { return }
    defer { state.withLock { $0.isMergeRunning = false } }
    let limit = min(
      Self.maximumPerSlice, max(Self.entriesPerSlice, generation.entries / Self.slicesPerMerge))
    var rooms = generation.heads.sorted { $0.key < $1.key }[...]
    while !rooms.isEmpty {
      let slice = rooms.prefix(Self.roomsPerSlice)
      let done = try await database.write(.bulk(bytes: limit * Self.bytesPerEntry)) {
        try await Self.mergeSlice(of: slice, limit: Int64(limit), in: $0)
      }
      rooms = rooms.dropFirst(done)
      if !rooms.isEmpty { await pause() }
    }
    // The generation is returned from the lock, so that its memory is released outside and writers do not wait for
    // that.
    _ = state.withLock { state in
      let merged = state.merging
      state.merging = nil
      return merged
    }
  }

  /// Begins a merge. Returns the generation to move to the table, or nil if a merge is running already.
  private func begin() -> Generation? {
    state.withLock { state in
      if state.isMergeRunning { return nil }
      state.isMergeRunning = true
      if let left = state.merging { return left }
      let newest = state.newest
      state.merging = newest
      state.newest = Generation()
      return newest
    }
  }

  /// Moves the keys of the first rooms to the table, each up to the given seq, and at most `limit` entries. Returns
  /// how many rooms are complete.
  private static func mergeSlice(
    of rooms: ArraySlice<(key: RoomID, value: Int64)>, limit: Int64, in transaction: Transaction
  ) async throws -> Int {
    try transaction.willLock(.roomHeads)
    var done = 0
    var left = limit
    for (room, highest) in rooms {
      guard let head = try await transaction.first(headSQL, [.room(room)]) else {
        done += 1
        continue
      }
      let keyed = try head.integer(0)
      // A failed transaction may have named a seq that the room never had.
      let end = min(highest, try head.integer(1))
      let through = min(end, keyed + left)
      if through > keyed {
        try await transaction.execute(
          mergeSQL, [.room(room), .integer(keyed), .integer(through)])
        try await transaction.execute(moveSQL, [.room(room), .integer(through)])
        left -= through - keyed
      }
      guard through >= end else { break }
      done += 1
    }
    return done
  }

  // MARK: SQL

  private static let unmergedHeadsSQL: SQL = """
    SELECT room_id, last_seq, keyed_seq FROM room_heads WHERE last_seq > keyed_seq
    """

  /// Reads only the entries behind the keys. SQLite never changes the order of a `CROSS JOIN`
  /// (https://www.sqlite.org/optoverview.html); otherwise it would begin with all entries.
  static let unmergedSQL: SQL = """
    SELECT e.room_id, e.sender, e.client_id, e.seq
    FROM room_heads h CROSS JOIN entries e ON e.room_id = h.room_id AND e.seq > h.keyed_seq
    WHERE h.last_seq > h.keyed_seq AND e.client_id IS NOT NULL
    """

  private static let headSQL: SQL = "SELECT keyed_seq, last_seq FROM room_heads WHERE room_id = $1"

  /// If the key exists, its entry's row was lost and the message was sent again.
  private static let mergeSQL: SQL = """
    INSERT OR REPLACE INTO client_keys (room_id, sender, client_id, seq)
    SELECT room_id, sender, client_id, seq FROM entries
    WHERE room_id = $1 AND seq > $2 AND seq <= $3 AND client_id IS NOT NULL
    """

  private static let moveSQL: SQL = "UPDATE room_heads SET keyed_seq = $2 WHERE room_id = $1"
}
