internal import Basics
internal import Database
internal import Synchronization

/// Whether the server is running, whether it should get requests, and what its database can do.
final class Health: Sendable {
  private let draining = Atomic<Bool>(false)
  private struct State {
    var condition = DatabaseCondition.writable
    var knownUntil: Int64 = .min
  }
  private let state = Mutex(State())
  private let log: Log

  init(log: Log) { self.log = log }

  /// How long a result is reused, so that frequent probes cost nothing.
  private static let keptMilliseconds: Int64 = 1000

  var isDraining: Bool { draining.load(ordering: .acquiring) }
  func startDraining() { draining.store(true, ordering: .releasing) }

  /// The result of the last check; `writable` before the first.
  var lastCondition: DatabaseCondition { state.withLock(\.condition) }

  /// What the database can do, as of at most a second ago.
  func condition(of database: any SQLDatabase) async -> DatabaseCondition {
    let known = state.withLock { state in
      Monotonic.milliseconds < state.knownUntil ? state.condition : nil
    }
    if let known { return known }
    let condition = await database.condition()
    let before = state.withLock { state in
      defer {
        state.condition = condition
        state.knownUntil = Monotonic.milliseconds + Self.keptMilliseconds
      }
      return state.condition
    }
    if condition != before, !isDraining {
      // Logged once, not for each probe.
      log.record(
        condition == .writable ? .notice : .warning, "database_condition",
        ["is": .string(condition.rawValue), "was": .string(before.rawValue)])
    }
    return condition
  }
}
