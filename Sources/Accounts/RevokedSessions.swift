package import Basics
internal import Synchronization

/// The sessions that ended lately: a token whose session is not here is as good as its signature. In
/// memory, asked for every frame.
///
/// Kept for longer than any access token is accepted, counted from when this node heard of the end, by a
/// clock that nobody sets: tokens made by a node whose clock is ahead live longer here.
package final class RevokedSessions: Sendable {
  private struct State {
    /// When each was heard of, in milliseconds of `UptimeClock`.
    var heardAt: [SessionID: Int64] = [:]
  }
  private let state = Mutex(State())
  /// Lets the common case, nothing ended lately, cost one load.
  private let count = Atomic<Int>(0)

  /// How much longer than its lifetime a token may be accepted, because clocks differ.
  package static let clockDifferenceMilliseconds: Int64 = 45 * 60_000
  private static let keptMilliseconds =
    LocalTokens.lifetimeMilliseconds + clockDifferenceMilliseconds + 60_000

  package init() {}

  package func contains(_ id: SessionID) -> Bool {
    guard count.load(ordering: .acquiring) > 0 else { return false }
    return state.withLock { $0.heardAt[id] != nil }
  }

  /// Adds a session; false where it was known already.
  @discardableResult
  package func add(_ id: SessionID, now: Int64 = UptimeClock.milliseconds) -> Bool {
    state.withLock { state in
      guard state.heardAt[id] == nil else { return false }
      state.heardAt[id] = now
      count.store(state.heardAt.count, ordering: .releasing)
      return true
    }
  }

  /// Forgets those that were heard of so long ago that no token of theirs is accepted.
  package func sweep(now: Int64 = UptimeClock.milliseconds) {
    state.withLock { state in
      state.heardAt = state.heardAt.filter { now - $0.value < Self.keptMilliseconds }
      count.store(state.heardAt.count, ordering: .releasing)
    }
  }
}
