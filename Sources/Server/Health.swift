internal import Basics
internal import Database
internal import Synchronization

/// Whether the server is up, whether it should get requests, and what its database can do.
final class Health: Sendable {
  private let draining = Atomic<Bool>(false)
  private struct State {
    var condition = DatabaseCondition.writable
    var knownUntil: Int64 = .min
  }
  private let state = Mutex(State())

  /// How long a condition that was found out counts: asking often costs nothing.
  private static let keptMilliseconds: Int64 = 1000

  var isDraining: Bool { draining.load(ordering: .acquiring) }
  func startDraining() { draining.store(true, ordering: .releasing) }

  /// The last condition that was found out.
  var lastCondition: DatabaseCondition { state.withLock(\.condition) }

  /// What the database can do, as of at most a second ago.
  func condition(of database: any SQLDatabase) async -> DatabaseCondition {
    let known = state.withLock { state in
      Monotonic.milliseconds < state.knownUntil ? state.condition : nil
    }
    if let known { return known }
    let condition = await database.condition()
    state.withLock { state in
      state.condition = condition
      state.knownUntil = Monotonic.milliseconds + Self.keptMilliseconds
    }
    return condition
  }
}
