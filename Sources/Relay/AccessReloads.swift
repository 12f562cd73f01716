internal import Access
internal import Basics
internal import Chat
internal import EventLoop

/// Reads rooms and accounts again that changed elsewhere, for one event loop: each once at a time, until
/// it is as new as it is known to be. On the loop only.
final class AccessReloads {
  /// A version that something said there is.
  private struct Wanted {
    var version: Int64
    /// Whether it was named after the reading that is under way began.
    var isLater = false
    var failures = 0

    /// Another event names a version.
    mutating func note(_ version: Int64) {
      self.version = max(self.version, version)
      isLater = true
    }
  }

  /// Called on the loop with what was read; the room is nil where it does not exist (any more). While it
  /// is called the room still counts as being read.
  var roomRead: (RoomID, Room?) -> Void = { _, _ in }
  var affiliationsRead: (UserID, Affiliations) -> Void = { _, _ in }
  /// Called when nothing is being read of this room or account any more.
  var roomDone: (RoomID) -> Void = { _ in }
  var accountDone: () -> Void = {}

  private let loop: Loop
  private let directory: RoomDirectory
  private let memberships: any Memberships
  private let log: Log
  private var rooms: [RoomID: Wanted] = [:]
  private var accounts: [UserID: Wanted] = [:]

  /// After a reading failed: doubled each time, up to the second.
  private static let retryMilliseconds = 100
  private static let longestRetryMilliseconds = 5000

  init(loop: Loop, directory: RoomDirectory, memberships: any Memberships, log: Log) {
    self.loop = loop
    self.directory = directory
    self.memberships = memberships
    self.log = log
  }

  /// Whether nothing is being read.
  var isEmpty: Bool { rooms.isEmpty && accounts.isEmpty }

  func isReading(_ room: RoomID) -> Bool { rooms[room] != nil }

  // MARK: Rooms

  /// Reads a room of which something said that it is at this version.
  func read(_ id: RoomID, version: Int64) {
    if rooms[id]?.note(version) != nil { return }
    rooms[id] = Wanted(version: version)
    read(id)
  }

  private func read(_ id: RoomID) {
    rooms[id]?.isLater = false
    let reloads = LoopBound(self, on: loop)
    loop.task { [directory, log] in
      do {
        let room = try await directory.reload(id)
        reloads.value.finished(id, room)
      } catch {
        log.warning("room_reload_failed", ["room_id": .init(id), "cause": .init("\(error)")])
        reloads.value.retry(id)
      }
    }
  }

  private func retry(_ id: RoomID) {
    let pause = Self.pause(after: rooms[id]?.failures ?? 0)
    rooms[id]?.failures += 1
    // Unowned: reloads live as long as their loop.
    loop.schedule(after: pause) { [unowned self] in read(id) }
  }

  private static func pause(after failures: Int) -> Int {
    // Six doublings are beyond the longest: no overflow.
    min(retryMilliseconds << min(failures, 6), longestRetryMilliseconds)
  }

  private func finished(_ id: RoomID, _ room: Room?) {
    roomRead(id, room)
    guard let wanted = rooms[id] else { return }
    if let room, room.accessVersion < wanted.version {
      // Named while this was read: the next reading has it. What was named before, and is not in the
      // database, is no version of this database's.
      if wanted.isLater {
        read(id)
        return
      }
      log.warning(
        "room_version_unknown",
        [
          "room_id": .init(id), "named": .init(Int(wanted.version)),
          "is": .init(Int(room.accessVersion)),
        ])
    }
    rooms[id] = nil
    roomDone(id)
  }

  // MARK: Accounts

  /// Reads what an account belongs to, of which something said that it is at this version.
  func read(_ user: UserID, version: Int64) {
    if accounts[user]?.note(version) != nil { return }
    accounts[user] = Wanted(version: version)
    read(user)
  }

  private func read(_ user: UserID) {
    guard let version = accounts[user]?.version else { return }
    accounts[user]?.isLater = false
    let reloads = LoopBound(self, on: loop)
    loop.task { [memberships, log] in
      do {
        let found = try await memberships.affiliations(of: user, atLeast: version)
        reloads.value.finished(user, found)
      } catch {
        log.warning("affiliations_not_read", ["user_id": .init(user), "cause": .init("\(error)")])
        reloads.value.retry(user)
      }
    }
  }

  private func retry(_ user: UserID) {
    let pause = Self.pause(after: accounts[user]?.failures ?? 0)
    accounts[user]?.failures += 1
    // Unowned: reloads live as long as their loop.
    loop.schedule(after: pause) { [unowned self] in read(user) }
  }

  private func finished(_ user: UserID, _ affiliations: Affiliations) {
    affiliationsRead(user, affiliations)
    guard let wanted = accounts[user] else { return }
    if affiliations.version < wanted.version, wanted.isLater {
      read(user)
      return
    }
    accounts[user] = nil
    accountDone()
  }
}
