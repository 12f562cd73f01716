internal import Access
internal import Basics
internal import Chat
internal import Events

/// Reads from the database for the rooms of one event loop: rooms that it begins to serve, rooms that changed
/// elsewhere, accounts' memberships, parts of logs, and heads. A failure is logged once, and retried if something
/// depends on the result. Used on the loop only.
final class RoomReader {
  let backend: any RelayBackend
  /// Rooms that this loop serves. Their events wait until they are read.
  let served: Reloads<RoomID, Room>
  /// Rooms without listeners here, read for the sockets that follow all their rooms. Nothing waits for them.
  let others: Reloads<RoomID, Room>
  let accounts: Reloads<UserID, Affiliations>
  private let log: Log
  /// How many times everything was forgotten. Results of reads that began before are dropped.
  private var generation = 0

  /// Callbacks that wait for the heads of single rooms. All of a turn are read together.
  private var headWaiters: [RoomID: [(Int64?) -> Void]] = [:]

  /// The most rooms in one read, so that a request for thousands does not block the loop.
  private static let roomsPerRead = 256

  init(_ backend: any RelayBackend, log: Log) {
    self.backend = backend
    self.log = log
    served = Reloads(
      of: "rooms", log: log, version: \.accessVersion, wait: backend.wait
    ) { backend.readAgain($0, isUrgent: true, $1) }
    others = Reloads(
      of: "rooms", log: log, version: \.accessVersion, wait: backend.wait
    ) { backend.readAgain($0, isUrgent: false, $1) }
    accounts = Reloads(
      of: "affiliations", log: log, version: \.version, wait: backend.wait
    ) { backend.readAgain($0, $1) }
  }

  /// The database was replaced. Results of reads that are under way are dropped.
  func forgetAll() {
    generation += 1
    headWaiters = [:]
    served.forgetAll()
    others.forgetAll()
    accounts.forgetAll()
  }

  /// Calls `then` with what was read, unless everything was forgotten meanwhile.
  private func current<Found>(
    _ then: @escaping (Result<Found, any Error>) -> Void
  ) -> (Result<Found, any Error>) -> Void {
    // Unowned: it lives as long as its loop.
    { [unowned self, generation] result in
      if generation == self.generation { then(result) }
    }
  }

  // MARK: Rooms

  /// Reads rooms and their heads, some at a time. `then` is called with each part, or with nil if it could not be
  /// read.
  func load(
    _ ids: [RoomID], _ then: @escaping ([RoomID], [LoadedRoom]?) -> Void
  ) {
    guard !ids.isEmpty else { return }
    let part = Array(ids.prefix(Self.roomsPerRead))
    let rest = Array(ids.dropFirst(Self.roomsPerRead))
    backend.readRooms(
      part,
      current { [unowned self] result in
        switch result {
        case .success(let found):
          for loaded in found { backend.keep(loaded.room) }
          then(part, found)
        case .failure(let error):
          log.warning(
            "rooms_not_loaded", ["count": .init(part.count), "cause": .init("\(error)")])
          then(part, nil)
        }
        load(rest, then)
      })
  }

  // MARK: Logs

  /// Reads entries of a room from `after` + 1 on, in order; nil if that failed.
  func readEntries(
    of room: Room, after: Int64, through: Int64, _ then: @escaping ([Entry]?) -> Void
  ) {
    backend.readEntries(
      of: room, after: after, through: through,
      current { [log] result in
        switch result {
        case .success(let entries): then(entries)
        case .failure(let error):
          log.warning(
            "log_not_read", ["room_id": .init(room.id), "cause": .init("\(error)")])
          then(nil)
        }
      })
  }

  /// Reads the head of a room; nil if that failed. Calls of one turn are combined, since one frame may ask for
  /// thousands.
  func readHead(of id: RoomID, _ then: @escaping (Int64?) -> Void) {
    if headWaiters.isEmpty {
      // Unowned: it lives as long as its loop.
      backend.nextTurn { [unowned self] in readWaitingHeads() }
    }
    headWaiters[id, default: []].append(then)
  }

  private func readWaitingHeads() {
    let waiters = headWaiters
    headWaiters = [:]
    let ids = waiters.keys.sorted()
    for start in stride(from: 0, to: ids.count, by: HeadComparisons.roomsPerPart) {
      let part = Array(ids[start..<min(start + HeadComparisons.roomsPerPart, ids.count)])
      readHeads(of: part) { heads in
        for id in part { for then in waiters[id] ?? [] { then(heads?[id]) } }
      }
    }
  }

  /// Reads the heads of rooms; nil if that failed.
  func readHeads(of ids: [RoomID], _ then: @escaping ([RoomID: Int64]?) -> Void) {
    backend.readHeads(
      of: ids,
      current { [log] result in
        switch result {
        case .success(let heads): then(heads)
        case .failure(let error):
          log.warning(
            "heads_not_read", ["count": .init(ids.count), "cause": .init("\(error)")])
          then(nil)
        }
      })
  }
}
