internal import Accounts
internal import Basics
internal import Events

/// What one node knows about who is present. A value without a clock: `now` is a time of `Monotonic.milliseconds`.
///
/// What changes is gathered until `tick`, which says what the other nodes and those who watch have to be told.
struct PresenceTable {
  /// A person whom somebody watches on this node.
  private struct Watched {
    /// How many sockets watch.
    var count = 0
    /// Whether the person's settings say that nobody may know whether they are present.
    var isHidden: Bool
    /// When the person was last seen, if no node knows anything newer.
    var lastSeenAt: Timestamp?
    /// What the watchers were told last.
    var told = PresenceStatus.offline
  }

  /// The sockets of this node.
  var local = LocalPresence()
  private var remote = RemotePresence()
  private var watched: [UserID: Watched] = [:]
  /// Those who are watched and of whom something has changed since the last tick.
  private var changed: Set<UserID> = []
  /// Who has changed lately whether they hide, and when. What was read from the database before does not count.
  private var hiding = BoundedCache<UserID, (at: Int64, isHidden: Bool)>(capacity: 10_000)

  private let node: NodeID
  /// Whether there may be other nodes.
  private let isShared: Bool
  private var nextReport: UInt64 = 1
  private var reportedAt: Int64?
  private var namedEveryoneAt: Int64?
  /// Whether everyone has to be named to the other nodes: at the start, and when one of them has missed something.
  private var isEveryoneWanted = true
  /// The nodes of which a report was missed.
  private var incomplete: Set<NodeID> = []

  /// A node that has nothing to report says so this often, so that the others know that it is there.
  static let reportMilliseconds: Int64 = 5000
  /// Everyone is named at most this often, however much the other nodes miss.
  static let everyoneMilliseconds: Int64 = 3000

  init(node: NodeID, isShared: Bool) {
    self.node = node
    self.isShared = isShared
  }

  // MARK: Watching

  /// Adds a socket to the watchers of people. Returns what they are at present. `facts` are what the database says about
  /// them, as of `readAt` or later.
  mutating func watch(_ facts: [UserID: PresenceFacts], readAt: Int64) -> [PersonPresence] {
    facts.map { user, facts in
      var person =
        watched[user] ?? Watched(isHidden: facts.hidesPresence, lastSeenAt: facts.lastSeenAt)
      person.isHidden = facts.hidesPresence
      if let known = hiding.value(for: user), known.at >= readAt {
        person.isHidden = known.isHidden
      }
      let present = present(user, person)
      if person.count == 0 {
        person.told = present.status
      } else if present.status != person.told {
        // The others are told at the next tick.
        changed.insert(user)
      }
      person.count += 1
      watched[user] = person
      return PersonPresence(user, present)
    }
  }

  /// Removes a socket from the watchers of people.
  mutating func unwatch(_ users: Set<UserID>) {
    for user in users {
      guard let count = watched[user]?.count else { continue }
      if count > 1 { watched[user]?.count = count - 1 } else { watched[user] = nil }
    }
  }

  private func present(_ user: UserID, _ person: Watched) -> PresenceState {
    if person.isHidden { return .unknown }
    let (here, elsewhere) = (local.state(of: user), remote.state(of: user))
    if let here, let elsewhere { return here.joined(with: elsewhere) }
    return here ?? elsewhere ?? PresenceState(.offline, lastSeenAt: person.lastSeenAt)
  }

  // MARK: Signals

  /// The kinds of signals that `take` uses.
  static let kinds: Set = [PresenceReport.kind, PresenceRequest.kind, SettingsSignal.kind]

  /// Takes a signal of any node.
  mutating func take(_ signal: Signal, now: Int64) {
    if let report = PresenceReport(signal) {
      guard report.node != node else { return }
      if let people = remote.take(report, now: now) {
        incomplete.remove(report.node)
        note(people)
      } else {
        incomplete.insert(report.node)
      }
    } else if let request = PresenceRequest(signal) {
      if request.node == node { isEveryoneWanted = true }
    } else if let settings = SettingsSignal(signal) {
      hiding.insert((now, settings.hidesPresence), for: settings.user)
      guard watched[settings.user] != nil else { return }
      watched[settings.user]?.isHidden = settings.hidesPresence
      changed.insert(settings.user)
    }
  }

  /// Notes those of the people who are watched as changed.
  private mutating func note(_ people: [PersonPresence]) {
    for person in people where watched[person.user] != nil {
      changed.insert(person.user)
      if let seen = person.state.lastSeenAt { watched[person.user]?.lastSeenAt = seen }
    }
  }

  // MARK: Once a second

  /// Returns what the other nodes have to be told, and those of the watched people whose status has changed since the
  /// last call.
  mutating func tick(now: Int64) -> (signals: [Signal], changes: [PersonPresence]) {
    local.advance(to: now)
    note(remote.advance(to: now))
    let here = local.takeChanged()
    note(here)
    let signals = isShared ? reports(here, now: now) : []
    return (signals, takeChanges())
  }

  private mutating func takeChanges() -> [PersonPresence] {
    defer { changed = [] }
    var changes: [PersonPresence] = []
    for user in changed {
      guard let person = watched[user] else { continue }
      let present = present(user, person)
      guard present.status != person.told else { continue }
      changes.append(PersonPresence(user, present))
      watched[user]?.told = present.status
    }
    return changes
  }

  /// Returns what the other nodes have to be told. `changed` are the people of this node who have changed.
  private mutating func reports(_ changed: [PersonPresence], now: Int64) -> [Signal] {
    var signals = incomplete.map { PresenceRequest(to: $0).signal }
    // A node is asked again after its next report, if that does not name everyone.
    incomplete = []
    var people = changed
    var isBeginning = false
    if isEveryoneWanted, namedEveryoneAt.map({ now >= $0 + Self.everyoneMilliseconds }) ?? true {
      people = local.all
      isBeginning = true
      isEveryoneWanted = false
      namedEveryoneAt = now
    } else if people.isEmpty, let reportedAt, now < reportedAt + Self.reportMilliseconds {
      return signals
    }
    reportedAt = now
    repeat {
      let part = people.prefix(PresenceReport.maximumPeople)
      signals.append(
        PresenceReport(
          node: node, number: nextReport, isBeginning: isBeginning, people: Array(part)
        ).signal)
      nextReport &+= 1
      isBeginning = false
      people.removeFirst(part.count)
    } while !people.isEmpty
    return signals
  }
}
