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
    var rooms: [RoomID: Room] = [:]
    /// Versions at which rooms are known to be deleted.
    var deleted: [RoomID: Int64] = [:]
  }
  private let state = Mutex(State())

  private static let capacity = 20_000

  package init(database: any SQLDatabase) { self.database = database }

  /// The room as it is in memory, without asking the database.
  package func cached(_ id: RoomID) -> Room? { state.withLock { $0.rooms[id] } }

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

  /// Keeps a room, unless a newer state of it is known.
  package func put(_ room: Room) {
    state.withLock { state in
      if let known = state.rooms[room.id], known.accessVersion > room.accessVersion { return }
      if let version = state.deleted[room.id], version >= room.accessVersion { return }
      if state.rooms.count >= Self.capacity { state.rooms.removeAll() }
      state.rooms[room.id] = room
    }
  }

  package func remove(_ id: RoomID, version: Int64 = .max) {
    state.withLock { state in
      state.rooms[id] = nil
      if version != .max {
        if state.deleted.count >= Self.capacity { state.deleted.removeAll() }
        state.deleted[id] = version
      }
    }
  }
}
