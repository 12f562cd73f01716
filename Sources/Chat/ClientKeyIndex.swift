internal import Basics
package import Database
internal import Events
internal import Synchronization

/// What makes a message the same as an earlier one: who wrote it where, and what they call it.
struct ClientKey: Hashable {
  let room: RoomID
  /// Nil where the server wrote it.
  let sender: UserID?
  let clientID: String

  init(room: RoomID, sender: UserID?, clientID: String) {
    self.room = room
    self.sender = sender
    self.clientID = clientID
  }

  /// Nil where the sender calls it nothing.
  init?(_ draft: Draft) {
    guard let clientID = draft.clientID else { return nil }
    self.init(room: draft.roomID, sender: draft.from, clientID: clientID)
  }

  /// Client ids are compared byte by byte, as the databases do: texts that only look alike differ.
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
/// A B-tree that takes each key at once has to change a page of its own for nearly each message, since
/// keys come in no order: that was 7 of the 25 us that a message cost the writer. Here the newest keys
/// are in memory, and those of many messages go into the table `client_keys` together, room by room,
/// so that a page takes many. A key is in the table, in memory, or for a while in both.
///
/// Nothing is lost with the memory: `room_heads.keyed_seq` says up to which seq a room's keys are in
/// the table, and a start reads the others from the entries.
///
/// Memory may also hold keys of transactions that failed. So a key that is found there *may* be in the
/// log, at that seq; the entry itself says. One that is neither there nor in the table is not in the log.
///
/// On Postgres several nodes write, and a unique index does the same.
package final class ClientKeyIndex: Sendable {
  /// What was written between two merges.
  private struct Generation {
    var seqs: [ClientKey: Int64] = [:]
    /// Up to which seq each room was written, with and without client ids.
    var heads: [RoomID: Int64] = [:]
    var entries = 0
  }
  private struct State {
    var newest = Generation()
    /// What is on its way into the table; nil where a merge has ended.
    var merging: Generation?
    var isMergeRunning = false
  }
  private let state = Mutex(State())
  private let database: any SQLDatabase
  private let entriesPerMerge: Int

  /// Entries of one transaction of a merge: some milliseconds of the writer's time.
  private static let entriesPerSlice = 1000
  /// Transactions of a merge where so many entries wait that each takes more: a merge must keep up with
  /// whoever writes.
  private static let slicesPerMerge = 16
  /// Entries of one transaction at most: the writer must not stand still for a merge.
  private static let maximumPerSlice = 4000
  /// Rooms of one transaction, each of which costs a reading even where nothing is left to do.
  private static let roomsPerSlice = 500
  /// What an entry counts among the writes that wait, about.
  private static let bytesPerEntry = 100

  /// Nil where the database has a unique index for this. `load` comes before the first append.
  ///
  /// `entriesPerMerge`: with more, memory (about 150 bytes a key) and a start take more; with fewer, a merge
  /// puts less into each page.
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
          room: try row.room(0), sender: try row.sender(1), clientID: try row.text(2))
        read.seqs[key] = try row.integer(3)
      }
      return read
    }
    state.withLock { $0.newest = read }
  }

  // MARK: In the writer's transactions

  /// What one call of the appender writes.
  struct Addition {
    /// Of those entries that have a client id, with their seqs.
    var keys: [(key: ClientKey, seq: Int64)] = []
    /// The last seq in each room.
    var heads: [(room: RoomID, seq: Int64)] = []
    /// All, with client ids and without.
    var entries = 0
    /// Whether the log was asked for each key, and has none of them.
    let areLookedUp: Bool
  }

  /// Keeps what is being written, in one step: were heads and keys kept one by one, a merge that begins
  /// between them would forget keys that it did not take.
  ///
  /// Throws `LogAppender.isKnown` where a key was not looked up and is known: the log may hold an entry
  /// with it, so that nothing may be written. A known key keeps its seq.
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
        // Never lower: too high a seq does no harm, one too low would leave keys behind.
        state.newest.heads[head.room] = max(state.newest.heads[head.room] ?? 0, head.seq)
      }
      return true
    }
    if !areNew { throw LogAppender.isKnown }
  }

  /// Where the entry with this key may be, unless it is in the table.
  func seq(of key: ClientKey) -> Int64? {
    state.withLock { $0.newest.seqs[key] ?? $0.merging?.seqs[key] }
  }

  // MARK: Merging

  /// Whether enough was written for a merge to pay.
  package var isMergeDue: Bool {
    state.withLock { $0.merging != nil || $0.newest.entries >= entriesPerMerge }
  }

  /// Takes the keys in memory into the table, in short transactions; `pause` is called between them.
  /// What a failure leaves is done by the next call. One at a time: a call during another does nothing.
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
    // What the lock hands out is freed after it, so that whoever writes does not wait for that.
    _ = state.withLock { state in
      let merged = state.merging
      state.merging = nil
      return merged
    }
  }

  /// What is to be merged; nil where it is being merged already.
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

  /// Takes the keys of the first rooms into the table, each up to the seq that is named, and as many
  /// as `limit` entries. Returns how many rooms are done.
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
      // A transaction that failed may have named a seq that the room never had.
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

  /// Reads what is behind the keys only: SQLite never changes the order of a `CROSS JOIN`
  /// (https://www.sqlite.org/optoverview.html), and would begin with all entries.
  static let unmergedSQL: SQL = """
    SELECT e.room_id, e.sender, e.client_id, e.seq
    FROM room_heads h CROSS JOIN entries e ON e.room_id = h.room_id AND e.seq > h.keyed_seq
    WHERE h.last_seq > h.keyed_seq AND e.client_id IS NOT NULL
    """

  private static let headSQL: SQL = "SELECT keyed_seq, last_seq FROM room_heads WHERE room_id = $1"

  /// A key that is there already is of an entry whose line was lost, and that came again.
  private static let mergeSQL: SQL = """
    INSERT OR REPLACE INTO client_keys (room_id, sender, client_id, seq)
    SELECT room_id, sender, client_id, seq FROM entries
    WHERE room_id = $1 AND seq > $2 AND seq <= $3 AND client_id IS NOT NULL
    """

  private static let moveSQL: SQL = "UPDATE room_heads SET keyed_seq = $2 WHERE room_id = $1"
}
