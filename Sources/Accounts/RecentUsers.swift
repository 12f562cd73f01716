internal import Basics
internal import Synchronization

/// A cache of users who recently requested their own account, so that the next request needs no query.
///
/// A change made on this node takes effect at once; one made elsewhere within a second.
final class RecentUsers: Sendable {
  private struct State {
    var users = BoundedCache<UserID, (user: User, until: Int64)>(capacity: RecentUsers.capacity)
    /// Counts changes, so that nothing that was read before one is kept after it.
    var changes = 0
  }
  private let state = Mutex(State())

  private static let keptMilliseconds: Int64 = 1000
  private static let capacity = 10_000

  /// The user as of at most a second ago, or else as `read` returns it.
  func user(
    _ id: UserID, now: Int64 = Monotonic.milliseconds, read: () async throws -> User?
  ) async throws -> User? {
    let (known, changes) = state.withLock { ($0.users.value(for: id), $0.changes) }
    if let known, now < known.until { return known.user }
    guard let user = try await read() else { return nil }
    state.withLock { state in
      guard state.changes == changes else { return }
      state.users.insert((user, now + Self.keptMilliseconds), for: id)
    }
    return user
  }

  /// Drops a user who has changed.
  func forget(_ id: UserID) {
    state.withLock { state in
      state.users.remove(id)
      state.changes += 1
    }
  }
}
