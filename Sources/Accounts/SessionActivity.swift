internal import Basics
package import Database
internal import Synchronization

/// Notes when sessions were last used, and stores that from time to time, at most once a minute for each.
package final class SessionActivity: Sendable {
  private struct State {
    var notedAt = BoundedCache<SessionID, Int64>(capacity: SessionActivity.capacity)
    var unwritten = Queue<(id: SessionID, at: Timestamp)>()
  }
  private let state = Mutex(State())

  static let everyMilliseconds: Int64 = 60_000
  private static let capacity = 100_000
  private static let batchSize = 256

  package init() {}

  func touch(_ id: SessionID) {
    let now = Monotonic.milliseconds
    state.withLock { state in
      if let noted = state.notedAt.value(for: id), now - noted < Self.everyMilliseconds { return }
      // What exceeds the capacity is noted again a minute later.
      guard state.unwritten.count < Self.capacity else { return }
      state.notedAt.insert(now, for: id)
      state.unwritten.append((id, .now))
    }
  }

  /// Stores what was noted, in several small transactions. If that fails, it is lost: one minute of "last seen".
  package func write(to database: any SQLDatabase) async throws {
    while true {
      let uses = state.withLock { state in
        var count = 0
        return state.unwritten.popWhile { _ in
          count += 1
          return count <= Self.batchSize
        }
      }
      if uses.isEmpty { return }
      // In a fixed order, so that two nodes never deadlock.
      let statements = uses.sorted { $0.id.uuid < $1.id.uuid }.map {
        AccountStore.touch($0.id, at: $0.at)
      }
      try await database.write { _ = try await $0.pipeline(statements) }
    }
  }
}
