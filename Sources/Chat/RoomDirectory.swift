package import Basics
package import Database
internal import Synchronization

/// The rooms this node has seen lately, each at the newest access version known here.
///
/// A change made on this node puts the new state here before its event goes out. A change made
/// elsewhere arrives as a version only; whoever needs the room then loads it.
package final class RoomDirectory: Sendable {
  private let database: any SQLDatabase
  private struct State {
    var rooms = BoundedCache<RoomID, Room>(capacity: RoomDirectory.capacity)
    /// Versions that changes named. What was read before such a change is never kept after it.
    var leastVersions = BoundedCache<RoomID, Int64>(capacity: RoomDirectory.capacity)
  }
  private let state = Mutex(State())

  private static let capacity = 50_000
  /// As many are read by one statement.
  private static let roomsPerRead = 200
  /// As many are read again while this node compares itself with the database. Others are forgotten,
  /// so that a comparison never takes long.
  private static let maximumRefreshed = 2000

  package init(database: any SQLDatabase) { self.database = database }

  /// The room as it is in memory, without asking the database.
  package func cached(_ id: RoomID) -> Room? { state.withLock { $0.rooms.value(for: id) } }

  /// The room at `version` or newer; nil where it does not exist. Asks the database only where memory
  /// has nothing as new.
  package func room(_ id: RoomID, atLeast version: Int64 = 0) async throws -> Room? {
    if let room = cached(id), room.accessVersion >= version { return room }
    return try await reload(id)
  }

  /// As `room`, of many at once; those that do not exist are left out. `isUrgent` where delivery waits
  /// for it.
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

  /// The room as the database has it now.
  package func reload(_ id: RoomID) async throws -> Room? {
    try await reload([id], isUrgent: false)[id]
  }

  private func reload(_ ids: [RoomID], isUrgent: Bool) async throws -> [RoomID: Room] {
    let body: @Sendable (Transaction) async throws -> [RoomID: Room] = {
      try await RoomStore.rooms(ids, in: $0)
    }
    let rooms = isUrgent ? try await database.readUrgently(body) : try await database.read(body)
    for id in ids {
      if let room = rooms[id] { put(room) } else { remove(id) }
    }
    return rooms
  }

  /// Brings what memory has of these rooms to these versions, in a transaction of whoever calls: for a
  /// node that compares itself with the database.
  package func refresh(_ versions: [RoomID: Int64], in transaction: Transaction) async throws {
    let outdated = versions.filter { note($0.key, version: $0.value) }.map(\.key)
      .prefix(Self.maximumRefreshed)
    for start in stride(from: 0, to: outdated.count, by: Self.roomsPerRead) {
      let ids = Array(outdated[start..<min(start + Self.roomsPerRead, outdated.count)])
      for room in try await RoomStore.rooms(ids, in: transaction).values { put(room) }
    }
  }

  /// A room is at this version now, or deleted. Returns whether memory had it as it was before; that
  /// is forgotten.
  @discardableResult
  package func note(_ id: RoomID, version: Int64) -> Bool {
    state.withLock { state in
      if version > state.leastVersions.value(for: id) ?? 0 {
        state.leastVersions.insert(version, for: id)
      }
      guard let known = state.rooms.value(for: id), known.accessVersion < version else {
        return false
      }
      state.rooms.remove(id)
      return true
    }
  }

  /// Keeps a room, unless it is known to have changed since.
  package func put(_ room: Room) {
    state.withLock { state in
      if let known = state.rooms.value(for: room.id), known.accessVersion > room.accessVersion {
        return
      }
      if let least = state.leastVersions.value(for: room.id), least > room.accessVersion { return }
      state.rooms.insert(room, for: room.id)
    }
  }

  /// The room was deleted, which made this its version; nothing older is kept.
  package func remove(_ id: RoomID, version: Int64) {
    state.withLock { state in
      state.rooms.remove(id)
      state.leastVersions.insert(version &+ 1, for: id)
    }
  }

  /// Forgets rooms that nobody asked for since the last call but one. Takes a moment where there are many: not for
  /// a loop.
  package func forgetUnused() {
    // The memory is given back behind the lock.
    _ = state.withLock { ($0.rooms.age(), $0.leastVersions.age()) }
  }

  /// The database is another one, or has gone back: nothing that is known counts.
  package func removeAll() { state.withLock { $0 = State() } }

  /// The database has no such room.
  private func remove(_ id: RoomID) { state.withLock { _ = $0.rooms.remove(id) } }
}
