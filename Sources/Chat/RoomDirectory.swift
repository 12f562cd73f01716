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
    /// Versions at which rooms are known to be deleted.
    var deleted = BoundedCache<RoomID, Int64>(capacity: RoomDirectory.capacity)
  }
  private let state = Mutex(State())

  private static let capacity = 50_000

  package init(database: any SQLDatabase) { self.database = database }

  /// The room as it is in memory, without asking the database.
  package func cached(_ id: RoomID) -> Room? { state.withLock { $0.rooms.value(for: id) } }

  /// The room at `version` or newer; nil where it does not exist. Asks the database only where memory
  /// has nothing as new.
  package func room(_ id: RoomID, atLeast version: Int64 = 0) async throws -> Room? {
    if let room = cached(id), room.accessVersion >= version { return room }
    let room = try await database.read { try await RoomStore.room(id, in: $0) }
    if let room { put(room) }
    return room
  }

  /// The room as the database has it now.
  package func reload(_ id: RoomID) async throws -> Room? {
    let room = try await database.read { try await RoomStore.room(id, in: $0) }
    if let room { put(room) } else { remove(id) }
    return room
  }

  /// Reads rooms of which memory has an older state than these versions, in a transaction of whoever
  /// calls: for a node that compares itself with the database. Rooms that memory does not have are
  /// left alone.
  package func refresh(_ versions: [RoomID: Int64], in transaction: Transaction) async throws {
    for (id, version) in versions {
      guard let known = cached(id), known.accessVersion < version else { continue }
      if let room = try await RoomStore.room(id, in: transaction) {
        put(room)
      } else {
        remove(id, version: version)
      }
    }
  }

  /// Keeps a room, unless a newer state of it is known.
  package func put(_ room: Room) {
    state.withLock { state in
      if let known = state.rooms.value(for: room.id), known.accessVersion > room.accessVersion {
        return
      }
      if let version = state.deleted.value(for: room.id), version >= room.accessVersion { return }
      state.rooms.insert(room, for: room.id)
    }
  }

  package func remove(_ id: RoomID, version: Int64 = .max) {
    state.withLock { state in
      state.rooms.remove(id)
      if version != .max { state.deleted.insert(version, for: id) }
    }
  }
}
