package import Basics
internal import Synchronization

/// The sessions that ended in the last 16 minutes: longer than any access token lives, so a token
/// whose session is not here is as good as its signature. In memory, asked for every frame.
package final class EndedSessions: Sendable {
  private let ended = Mutex<[SessionID: Timestamp]>([:])
  /// Lets the common case, nothing ended lately, cost one load.
  private let count = Atomic<Int>(0)

  package static let keptMilliseconds: Int64 = 16 * 60_000

  package init() {}

  package func contains(_ id: SessionID) -> Bool {
    guard count.load(ordering: .acquiring) > 0 else { return false }
    return ended.withLock { $0[id] != nil }
  }

  /// Adds a session; false where it was known already.
  @discardableResult
  package func add(_ id: SessionID, at time: Timestamp = .now) -> Bool {
    ended.withLock { ended in
      let isNew = ended.updateValue(time, forKey: id) == nil
      count.store(ended.count, ordering: .releasing)
      return isNew
    }
  }

  /// Forgets those that ended so long ago that no token of theirs lives.
  package func sweep(now: Timestamp = .now) {
    ended.withLock { ended in
      let limit = now.adding(milliseconds: -Self.keptMilliseconds)
      ended = ended.filter { $0.value >= limit }
      count.store(ended.count, ordering: .releasing)
    }
  }
}
