internal import Access
internal import Accounts
internal import Basics
internal import Live
internal import Presence

/// The sockets of one event loop that watch people. Used on the loop only.
///
/// Whom a socket may watch depends on the circle of its caller, which changes without a sign for other people's teams
/// and rooms. So every socket's list is checked again from time to time.
final class PresenceFeed {
  /// A socket that watches.
  private struct Watcher {
    let listener: any RoomListener
    /// Everyone that the client has named.
    let wanted: [UserID]
    /// Those of them in the caller's circle, each with what the client was told last.
    var watched: [UserID: PresenceStatus]
    /// What the client has still to be told.
    var untold: [UserID: PresenceState] = [:]
    /// When the list is checked again, by `Monotonic.milliseconds`.
    var checkDue: Int64
  }

  private var watchers: [UInt64: Watcher] = [:]
  /// The sockets that want to watch each person, whether they may or not.
  private var byPerson: [UserID: Set<UInt64>] = [:]
  /// When lists are to be checked again, the next first. What does not agree with the watcher's `checkDue` does not count.
  private var checks = Queue<(socket: UInt64, due: Int64)>()
  /// The sockets to check before all others, because somebody's memberships have changed.
  private var suspects: Set<UInt64> = []
  /// The sockets that have something left to be told.
  private var behind: Set<UInt64> = []
  private var frames = FrameWriter()

  private let presence: Presence
  private let backend: any RelayBackend
  private let hub: Hub
  private let log: Log
  /// Whether anything may be told about other people now.
  var mayTell: () -> Bool = { true }

  /// How long after a check the next one is due. It comes later if very many sockets watch.
  private static let checkMilliseconds: Int64 = 60_000
  /// The most sockets that are checked in a second.
  private static let checksPerSecond = 50

  init(
    presence: Presence, backend: any RelayBackend, hub: Hub, log: Log
  ) {
    self.presence = presence
    self.backend = backend
    self.hub = hub
    self.log = log
  }

  /// Has a socket watch these people in place of those that it watched. Calls `then` with those of them whom the caller
  /// may watch, as they are at present, or with the reason why that cannot be told.
  func watch(
    _ users: [UserID], by listener: any RoomListener,
    _ then: @escaping (Result<[PersonPresence], any Error>) -> Void
  ) {
    find(users, for: listener) { [unowned self] result in
      guard !listener.isEnded else { return }
      then(result.map { set($0.facts, $0.readAt, wanted: users, listener) })
    }
  }

  /// Removes a socket that has ended.
  func remove(_ number: UInt64) {
    guard let watcher = watchers.removeValue(forKey: number) else { return }
    behind.remove(number)
    forget(watcher.wanted, of: number)
    presence.unwatch(Set(watcher.watched.keys))
  }

  private func find(
    _ users: [UserID], for listener: any RoomListener,
    _ then: @escaping (Result<(facts: [UserID: PresenceFacts], readAt: Int64), any Error>) -> Void
  ) {
    guard let caller = listener.caller else { return }
    let readAt = backend.now
    backend.findWatchable(users, by: caller) { result in then(result.map { ($0, readAt) }) }
  }

  /// Replaces whom a socket watches. Returns what those people are at present.
  private func set(
    _ facts: [UserID: PresenceFacts], _ readAt: Int64, wanted: [UserID],
    _ listener: any RoomListener
  ) -> [PersonPresence] {
    let number = listener.connection.number
    let old = watchers[number]
    // First the new ones: who is watched before and after stays so.
    let present = presence.watch(facts, readAt: readAt)
    if let old {
      presence.unwatch(Set(old.watched.keys))
      forget(old.wanted, of: number)
    }
    for user in wanted { byPerson[user, default: []].insert(number) }
    behind.remove(number)
    if wanted.isEmpty {
      watchers[number] = nil
    } else {
      let due = backend.now + Self.checkMilliseconds
      let watched = Dictionary(uniqueKeysWithValues: present.map { ($0.user, $0.state.status) })
      watchers[number] = Watcher(
        listener: listener, wanted: wanted, watched: watched, checkDue: due)
      checks.append((number, due))
    }
    return present
  }

  private func forget(_ users: [UserID], of number: UInt64) {
    for user in users {
      byPerson[user]?.remove(number)
      if byPerson[user]?.isEmpty == true { byPerson[user] = nil }
    }
  }

  // MARK: Changes

  /// Tells the sockets that watch these people.
  func take(_ changes: [PersonPresence]) {
    for change in changes {
      for number in byPerson[change.user] ?? [] {
        guard let told = watchers[number]?.watched[change.user] else { continue }
        let isNews = told != change.state.status
        watchers[number]?.untold[change.user] = isNews ? change.state : nil
        if isNews { behind.insert(number) }
      }
    }
    tell()
  }

  /// Tells each socket what it has not been told. One that reads too slowly, and all while nothing may be told, are told
  /// later, and then only what is still true.
  private func tell() {
    guard !behind.isEmpty, mayTell() else { return }
    for number in behind {
      guard let watcher = watchers[number], !watcher.listener.isEnded, !watcher.untold.isEmpty
      else {
        behind.remove(number)
        continue
      }
      let people = watcher.untold.map { PersonPresence($0, $1) }
      guard hub.sendDroppable(frames.presence(people), to: watcher.listener.connection) else {
        continue
      }
      for person in people where watcher.watched[person.user] != nil {
        watchers[number]?.watched[person.user] = person.state.status
      }
      watchers[number]?.untold = [:]
      behind.remove(number)
    }
  }

  // MARK: Checks

  /// To be called once a second.
  func tick() {
    tell()
    var left = Self.checksPerSecond
    while left > 0, let number = suspects.popFirst() {
      left -= 1
      checkAgain(number)
    }
    while left > 0, let next = checks.first, next.due <= backend.now {
      _ = checks.popFirst()
      guard watchers[next.socket]?.checkDue == next.due else { continue }
      left -= 1
      checkAgain(next.socket)
    }
  }

  /// The memberships of a person have changed, and with them, perhaps, who knows whom. `own` are the person's sockets.
  func affiliationsChanged(_ user: UserID, own: Set<UInt64>) {
    guard !watchers.isEmpty else { return }
    suspects.formUnion(byPerson[user] ?? [])
    suspects.formUnion(own.filter { watchers[$0] != nil })
  }

  /// Finds again whom a socket may watch. The client is told about people who were added, and that those who were
  /// removed are offline.
  private func checkAgain(_ number: UInt64) {
    guard let watcher = watchers[number], !watcher.listener.isEnded else { return }
    find(watcher.wanted, for: watcher.listener) { [unowned self] result in
      // If the client has named others meanwhile, those are known already.
      guard let before = watchers[number], before.checkDue == watcher.checkDue else { return }
      switch result {
      case .failure(let error):
        log.warning("watched_not_checked", ["cause": .init("\(error)")])
        watchers[number]?.checkDue = backend.now + Self.checkMilliseconds
        checks.append((number, backend.now + Self.checkMilliseconds))
      case .success(let (facts, readAt)):
        let present = set(facts, readAt, wanted: watcher.wanted, watcher.listener)
        var untold = before.untold.filter { facts[$0.key] != nil }
        for person in present where before.watched[person.user] != person.state.status {
          untold[person.user] = person.state
        }
        for (user, told) in before.watched where facts[user] == nil && told != .offline {
          untold[user] = .unknown
        }
        guard !untold.isEmpty else { return }
        for user in untold.keys where facts[user] != nil {
          watchers[number]?.watched[user] = before.watched[user] ?? .offline
        }
        watchers[number]?.untold = untold
        behind.insert(number)
        tell()
      }
    }
  }
}
