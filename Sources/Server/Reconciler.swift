internal import Access
internal import Accounts
internal import Basics
internal import Chat
internal import Database
internal import EventLoop
internal import Events
internal import Synchronization

/// Compares what this node knows of sessions and access with the database, a few times a second.
///
/// The stream of events brings changes at once, but may lose them between nodes. What is found here is
/// put into this node's stream as if it had just come: a lost signal costs a moment, not a leak.
final class Reconciler: Sendable {
  private let database: any SQLDatabase
  private let history: MessageHistory
  private let events: EventStream
  private let ended: EndedSessions
  private let log: Log
  private struct State {
    /// Access versions already passed on, for rooms that changed lately.
    var passedOn: [RoomID: Int64] = [:]
    /// When the last comparison that succeeded began.
    var comparedAt: Timestamp
    var isFailing = false
  }
  private let state: Mutex<State>

  /// A third of the second within which a revocation must count, so that one slow reading is no harm.
  static let everyMilliseconds = 300
  /// How far back beyond the last comparison is looked: covers clocks of nodes that differ.
  private static let windowMilliseconds: Int64 = 60_000

  init(
    database: any SQLDatabase, history: MessageHistory, events: EventStream, ended: EndedSessions,
    log: Log
  ) {
    self.database = database
    self.history = history
    self.events = events
    self.ended = ended
    self.log = log
    state = Mutex(State(comparedAt: .now))
  }

  /// Repeats until the task is cancelled.
  func run(on loop: Loop) async {
    while !Task.isCancelled {
      await loop.sleep(milliseconds: Self.everyMilliseconds)
      await compare()
    }
  }

  /// One comparison. Failures are logged once, until one succeeds.
  func compare() async {
    do {
      // After an outage everything that happened in it must be seen, however long it was.
      let begin = Timestamp.now
      let since = state.withLock { $0.comparedAt }.adding(milliseconds: -Self.windowMilliseconds)
      let changes = try await history.accessChanges(since: since)
      // Last of what may fail: what it finds is marked as known, and must be passed on.
      let sessions = try await AccountUpkeep.newlyEnded(ended, in: database, since: since)
      let news = state.withLock { state in
        let news = changes.filter { state.passedOn[$0.0] != $0.1 }
        state.passedOn = Dictionary(uniqueKeysWithValues: changes)
        state.comparedAt = begin
        state.isFailing = false
        return news
      }
      events.deliverHere(
        sessions.map { .access(.sessionEnded($0)) }
          + news.map { .access(.roomChanged($0.0, version: $0.1)) })
    } catch {
      let isFirst = state.withLock { state in
        defer { state.isFailing = true }
        return !state.isFailing
      }
      if isFirst { log.warning("not_compared_with_database", ["cause": .init("\(error)")]) }
    }
  }
}
