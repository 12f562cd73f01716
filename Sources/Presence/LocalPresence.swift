internal import Basics

/// The people who have sockets on this node, or had some a moment ago. A value without a clock: `now` is a time of
/// `Monotonic.milliseconds`, which never decreases, and `at` the time of day.
struct LocalPresence {
  private struct Person {
    var sockets = 0
    var status = PresenceStatus.online
    /// When a socket last sent something, or was opened.
    var activeAt: Int64
    /// When the last socket was closed. Counts only while there are none.
    var closedAt: Int64 = 0
    var lastSeenAt: Timestamp
    /// The second in which the person is looked at next.
    var nextCheck = Int64.max
  }

  private var people: [UserID: Person] = [:]
  /// The people to look at in each second, because their status may change by itself then. Entries that do not agree
  /// with the person's `nextCheck` do not count.
  private var checks: [Int64: [UserID]] = [:]
  /// The second up to which `checks` were made.
  private var checkedUntil: Int64?
  /// The people whose status has changed since `takeChanged`, each with the time they were last seen.
  private var changed: [UserID: Timestamp] = [:]

  /// Without anything sent for this long, a person is away.
  static let activeMilliseconds: Int64 = 300_000
  /// A person stays as they were for this long after their last socket was closed.
  static let graceMilliseconds: Int64 = 30_000

  /// The number of people who are not offline.
  var count: Int { people.count }

  /// All people who are not offline.
  var all: [PersonPresence] {
    people.map { PersonPresence($0, PresenceState($1.status, lastSeenAt: $1.lastSeenAt)) }
  }

  func state(of user: UserID) -> PresenceState? {
    people[user].map { PresenceState($0.status, lastSeenAt: $0.lastSeenAt) }
  }

  /// Notes that a socket of the person was opened.
  mutating func opened(_ user: UserID, now: Int64, at time: Timestamp) {
    if people[user] == nil {
      people[user] = Person(activeAt: now, lastSeenAt: time)
      changed[user] = time
    }
    people[user]?.sockets += 1
    active(user, now: now, at: time)
  }

  /// Notes that a socket of the person has sent something.
  mutating func active(_ user: UserID, now: Int64, at time: Timestamp) {
    guard var person = people[user], person.sockets > 0 else { return }
    person.activeAt = now
    person.lastSeenAt = time
    people[user] = person
    refresh(user, now: now)
  }

  /// Notes that a socket of the person was closed.
  mutating func closed(_ user: UserID, now: Int64, at time: Timestamp) {
    guard var person = people[user], person.sockets > 0 else { return }
    person.sockets -= 1
    if person.sockets == 0 {
      person.closedAt = now
      person.lastSeenAt = time
    }
    people[user] = person
    refresh(user, now: now)
  }

  /// Changes the status of those whose time has come.
  mutating func advance(to now: Int64) {
    let second = now / 1000
    // At first, and after the process stood still for long, there are more seconds than entries.
    let due: [Int64]
    if let checkedUntil, second - checkedUntil < 600 {
      guard checkedUntil < second else { return }
      due = Array(checkedUntil + 1...second)
    } else {
      due = checks.keys.filter { $0 <= second }
    }
    checkedUntil = second
    for second in due {
      // Those who have been filed under an earlier second since are looked at there.
      for user in checks.removeValue(forKey: second) ?? [] where people[user]?.nextCheck == second {
        people[user]?.nextCheck = .max
        refresh(user, now: now)
      }
    }
  }

  /// Returns the people whose status has changed since the last call.
  mutating func takeChanged() -> [PersonPresence] {
    defer { changed = [:] }
    return changed.map { user, seen in
      PersonPresence(user, state(of: user) ?? PresenceState(.offline, lastSeenAt: seen))
    }
  }

  /// Finds a person's status, and when it may change by itself.
  private mutating func refresh(_ user: UserID, now: Int64) {
    guard var person = people[user] else { return }
    let due: Int64?
    if person.sockets == 0 {
      due = person.closedAt + Self.graceMilliseconds
      if now >= person.closedAt + Self.graceMilliseconds {
        people[user] = nil
        changed[user] = person.lastSeenAt
        return
      }
    } else {
      let isActive = now < person.activeAt + Self.activeMilliseconds
      due = isActive ? person.activeAt + Self.activeMilliseconds : nil
      let status = isActive ? PresenceStatus.online : .away
      if status != person.status {
        person.status = status
        changed[user] = person.lastSeenAt
      }
    }
    // Rounded up, so that the time has come when the second is looked at.
    if let due, case let second = due / 1000 + 1, second < person.nextCheck {
      person.nextCheck = second
      checks[second, default: []].append(user)
    }
    people[user] = person
  }
}
