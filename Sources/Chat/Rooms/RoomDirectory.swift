package import Basics
package import Database
internal import Synchronization

/// A cache of the rooms that this node used recently, each at the newest access version known here.
///
/// A change made on this node is stored here before its event is published. A change made on another node arrives only
/// as a version; the room is read from the database by the next comparison or when it is next needed.
package final class RoomDirectory: Sendable {
  private let database: any SQLDatabase
  private struct State {
    /// The number of people of the rooms in the cache. Rooms that the cache evicts by itself still count, so this is an
    /// upper bound.
    var people = 0
    var rooms = BoundedCache<RoomID, Room>(capacity: RoomDirectory.capacity)
    /// Rooms with many people that have changed since. When one is read again, only the people who changed are read.
    var outdated = BoundedCache<RoomID, Room>(capacity: RoomDirectory.outdatedCapacity)
    /// The versions that changes announced. A room that was read before such a change is never kept after it.
    var leastVersions = BoundedCache<RoomID, Int64>(capacity: RoomDirectory.capacity)

    mutating func keep(_ room: Room) {
      drop(room.id)
      rooms.insert(room, for: room.id)
      outdated.remove(room.id)
      people += room.people.count
      if people > RoomDirectory.maximumPeople { makeRoom() }
    }

    mutating func drop(_ id: RoomID) {
      if let old = rooms.remove(id) { people -= old.people.count }
    }

    /// Drops the rooms that were not used recently, or if these have few people, all.
    private mutating func makeRoom() {
      people -= rooms.age().values.reduce(0) { $0 + $1.people.count }
      guard people > RoomDirectory.maximumPeople else { return }
      _ = rooms.age()
      people = 0
    }
  }
  private let state = Mutex(State())

  private static let capacity = 50_000
  private static let outdatedCapacity = 256
  /// The most people of all rooms in memory. Each takes about 60 bytes.
  private static let maximumPeople = 2_000_000
  /// The smallest number of people for which an outdated room is worth keeping.
  private static let manyPeople = 100
  /// The number of rooms read by one statement.
  private static let roomsPerRead = 200
  /// The most rooms that are read again while this node compares itself with the database. The others are dropped, so
  /// that a comparison never takes long.
  private static let maximumRefreshed = 2000

  package init(database: any SQLDatabase) { self.database = database }

  /// Returns the room in memory, or nil. Never reads the database.
  package func cached(_ id: RoomID) -> Room? { state.withLock { $0.rooms.value(for: id) } }

  /// Returns the room at `version` or newer, or nil if it does not exist. Reads the database only if memory has no such
  /// version.
  package func room(_ id: RoomID, atLeast version: Int64 = 0) async throws -> Room? {
    if let room = cached(id), room.accessVersion >= version { return room }
    return try await reload(id)
  }

  /// The same for many rooms at once. Those that do not exist are left out. `isUrgent` means that delivery waits for
  /// the result.
  package func rooms(
    atLeast versions: [RoomID: Int64], isUrgent: Bool
  ) async throws -> [RoomID: Room] {
    var rooms: [RoomID: Room] = [:]
    var missing: [RoomID] = []
    for (id, version) in versions {
      if let room = cached(id), room.accessVersion >= version {
        rooms[id] = room
      } else {
        missing.append(id)
      }
    }
    if missing.isEmpty { return rooms }
    return rooms.merging(try await reload(missing, isUrgent: isUrgent)) { _, read in read }
  }

  /// Reads the room from the database.
  package func reload(_ id: RoomID) async throws -> Room? {
    try await reload([id], isUrgent: false)[id]
  }

  private func reload(_ ids: [RoomID], isUrgent: Bool) async throws -> [RoomID: Room] {
    let body: @Sendable (Transaction) async throws -> [RoomID: Room] = {
      try await self.read(ids, in: $0)
    }
    let rooms = isUrgent ? try await database.readUrgently(body) : try await database.read(body)
    for id in ids where rooms[id] == nil { remove(id) }
    return rooms
  }

  /// Reads rooms in a reading transaction, and keeps them. Those that do not exist are left out.
  func read(_ ids: [RoomID], in transaction: Transaction) async throws -> [RoomID: Room] {
    let rooms = try await RoomStore.rooms(ids, known: known(ids), in: transaction)
    for room in rooms.values { put(room) }
    return rooms
  }

  /// The same for one room; nil if it does not exist.
  func read(_ id: RoomID, in transaction: Transaction) async throws -> Room? {
    try await read([id], in: transaction)[id]
  }

  /// Reads a room in a writing transaction, and locks it: nobody else changes the room until the transaction ends.
  /// Nil if it does not exist.
  func readForUpdate(_ id: RoomID, in transaction: Transaction) async throws -> Room? {
    try await RoomStore.lock([id], in: transaction)
    return try await readAgain(id, in: transaction)
  }

  /// Reads a room in a writing transaction that has locked it, with what the transaction has changed. Nil if it does
  /// not exist.
  func readAgain(_ id: RoomID, in transaction: Transaction) async throws -> Room? {
    try await readAgain([id], in: transaction)[id]
  }

  /// The same for several rooms.
  func readAgain(
    _ ids: [RoomID], in transaction: Transaction
  ) async throws -> [RoomID: Room] {
    try await RoomStore.rooms(ids, known: known(ids), in: transaction)
  }

  /// Returns those of the rooms that are in memory, even if outdated.
  private func known(_ ids: [RoomID]) -> [RoomID: Room] {
    state.withLock { state in
      var known: [RoomID: Room] = [:]
      for id in ids { known[id] = state.rooms.value(for: id) ?? state.outdated.value(for: id) }
      return known
    }
  }

  /// Updates the rooms in memory to these versions, in the caller's transaction, for a node that compares itself with
  /// the database.
  package func refresh(_ versions: [RoomID: Int64], in transaction: Transaction) async throws {
    let outdated = versions.filter { note($0.key, version: $0.value) }.map(\.key)
      .prefix(Self.maximumRefreshed)
    for start in stride(from: 0, to: outdated.count, by: Self.roomsPerRead) {
      let ids = Array(outdated[start..<min(start + Self.roomsPerRead, outdated.count)])
      _ = try await read(ids, in: transaction)
    }
  }

  /// Notes that a room has this version now, or was deleted with it. Returns whether memory held an older version,
  /// which is dropped.
  @discardableResult
  package func note(_ id: RoomID, version: Int64) -> Bool {
    state.withLock { state in
      if version > state.leastVersions.value(for: id) ?? 0 {
        state.leastVersions.insert(version, for: id)
      }
      guard let known = state.rooms.value(for: id), known.accessVersion < version else {
        return false
      }
      state.drop(id)
      if known.people.count >= Self.manyPeople { state.outdated.insert(known, for: id) }
      return true
    }
  }

  /// Keeps a room, unless it is known to have changed since it was read.
  package func put(_ room: Room) {
    state.withLock { state in
      if let known = state.rooms.value(for: room.id), known.accessVersion > room.accessVersion {
        return
      }
      if let least = state.leastVersions.value(for: room.id), least > room.accessVersion { return }
      state.keep(room)
    }
  }

  /// Notes that the room was deleted, which raised its version to this. Nothing up to this version is kept.
  package func remove(_ id: RoomID, version: Int64) {
    state.withLock { state in
      state.drop(id)
      state.outdated.remove(id)
      state.leastVersions.insert(version &+ 1, for: id)
    }
  }

  /// Drops rooms that were not used since the previous call. Takes some time if there are many, so it must not run on a
  /// loop.
  package func forgetUnused() {
    // The memory is released outside the lock, and what was dropped is counted there.
    let (rooms, _, _) = state.withLock {
      ($0.rooms.age(), $0.outdated.age(), $0.leastVersions.age())
    }
    let people = rooms.values.reduce(0) { $0 + $1.people.count }
    state.withLock { $0.people = max(0, $0.people - people) }
  }

  /// Drops everything, because the database was replaced or restored.
  package func removeAll() { state.withLock { $0 = State() } }

  /// Drops a room that the database does not have.
  private func remove(_ id: RoomID) {
    state.withLock { state in
      state.drop(id)
      state.outdated.remove(id)
    }
  }
}
