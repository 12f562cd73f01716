package import Basics
internal import Synchronization

/// The recently ended sessions. A token whose session is in here is refused, although its signature is valid and it has
/// not expired. Held in memory, because it is asked for every frame.
///
/// A session is kept for longer than any access token is accepted, counted from when this node learned of its end, by
/// a clock that cannot be set: tokens from a node whose clock is ahead live longer here.
package final class RevokedSessions: Sendable {
  private struct State {
    /// When this node learned of each end, in milliseconds of `UptimeClock`.
    var heardAt: [SessionID: Int64] = [:]
  }
  private let state = Mutex(State())
  /// Makes the common case, no recently ended session, cost one atomic load.
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

  /// Adds a session. Returns false if it was known already.
  @discardableResult
  package func add(_ id: SessionID, now: Int64 = UptimeClock.milliseconds) -> Bool {
    state.withLock { state in
      guard state.heardAt[id] == nil else { return false }
      state.heardAt[id] = now
      count.store(state.heardAt.count, ordering: .releasing)
      return true
    }
  }

  /// Forgets sessions that ended so long ago that none of their tokens is accepted.
  package func sweep(now: Int64 = UptimeClock.milliseconds) {
    state.withLock { state in
      state.heardAt = state.heardAt.filter { now - $0.value < Self.keptMilliseconds }
      count.store(state.heardAt.count, ordering: .releasing)
    }
  }
}
