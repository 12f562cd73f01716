package import Accounts
package import Basics
package import Events
internal import Synchronization

/// Who is present, on this node and on others, for those who watch.
///
/// Sockets report that they open, close and send something. Once a second, what has changed is told to the other nodes,
/// and to the event loops if somebody watches. So people whom nobody watches cost no more than an entry in a table.
package final class Presence: Sendable {
  package typealias Listener = @Sendable ([PersonPresence]) -> Void

  private let table: Mutex<PresenceTable>
  private let events: EventStream
  private let clock: @Sendable () -> Int64
  // A struct, because a closure that is stored directly in a Mutex is wrapped once more at each access.
  private struct Registered {
    let listen: Listener
  }
  private let listeners = Mutex<[Registered]>([])

  /// How often `tick` is to be called.
  package static let tickMilliseconds = 1000

  /// `isShared` tells whether there may be other nodes, `clock` is `Monotonic.milliseconds`. Must be made before the
  /// first event is published.
  package init(
    node: NodeID, events: EventStream, isShared: Bool,
    clock: @escaping @Sendable () -> Int64 = { Monotonic.milliseconds }
  ) {
    table = Mutex(PresenceTable(node: node, isShared: isShared))
    self.events = events
    self.clock = clock
    events.listen { [weak self] events in
      for case .signal(let signal) in events { self?.take(signal) }
    }
  }

  private func take(_ signal: Signal) {
    guard PresenceTable.kinds.contains(signal.kind) else { return }
    let now = clock()
    table.withLock { $0.take(signal, now: now) }
  }

  /// Calls `listener` with the people whose status has changed and whom somebody watches on this node: at most once in
  /// each tick, on the thread that calls `tick`.
  package func listen(_ listener: @escaping Listener) {
    listeners.withLock { $0.append(Registered(listen: listener)) }
  }

  // MARK: Sockets

  /// Notes that a socket of the person was opened.
  package func opened(_ user: UserID) {
    let now = clock()
    table.withLock { $0.local.opened(user, now: now, at: .now) }
  }

  /// Notes that a socket of the person has sent something.
  package func active(_ user: UserID) {
    let now = clock()
    table.withLock { $0.local.active(user, now: now, at: .now) }
  }

  /// Notes that a socket of the person was closed.
  package func closed(_ user: UserID) {
    let now = clock()
    table.withLock { $0.local.closed(user, now: now, at: .now) }
  }

  /// The number of people who have open sockets on this node, or had some a moment ago.
  package var count: Int { table.withLock { $0.local.count } }

  // MARK: Watching

  /// Watches people from now on, and returns what they are at present. Calls are counted, and each is undone by one
  /// `unwatch` of the same people. `facts` are what the database says about them, from a read that began at `readAt`
  /// (`Monotonic.milliseconds`) or later.
  package func watch(_ facts: [UserID: PresenceFacts], readAt: Int64) -> [PersonPresence] {
    table.withLock { $0.watch(facts, readAt: readAt) }
  }

  /// Undoes one `watch` of each of these people.
  package func unwatch(_ users: Set<UserID>) { table.withLock { $0.unwatch(users) } }

  /// Tells the other nodes and the listeners what has changed since the last call.
  package func tick() {
    let now = clock()
    let (signals, changes) = table.withLock { $0.tick(now: now) }
    if !signals.isEmpty { events.publishElsewhere(signals.map { .signal($0) }) }
    guard !changes.isEmpty else { return }
    for listener in listeners.withLock(\.self) { listener.listen(changes) }
  }
}
