package import Access
package import Basics
package import Database
package import Events
internal import Synchronization

/// A cache of the memberships of recently used accounts, each at the newest version known here.
///
/// A change made on this node, or announced by another, is noted as a version; the next user of the account reads it.
/// What was read before such a note is never kept after it.
package final class MembershipDirectory: Memberships {
  private let database: any SQLDatabase
  private let events: EventStream
  private struct State {
    var known = BoundedCache<UserID, Affiliations>(capacity: MembershipDirectory.capacity)
    /// The versions that changes announced, so that an older read that ends later is not kept.
    var leastVersions = BoundedCache<UserID, Int64>(capacity: MembershipDirectory.capacity)
  }
  private let state = Mutex(State())

  private static let capacity = 50_000
  /// The number of accounts read by one statement.
  private static let accountsPerRead = 200
  /// The most accounts that are read again while this node compares itself with the database. The others are dropped,
  /// so that a comparison never takes long.
  private static let maximumRefreshed = 2000

  package init(database: any SQLDatabase, events: EventStream) {
    self.database = database
    self.events = events
  }

  package func current(_ user: UserID) -> Affiliations? {
    state.withLock { $0.known.value(for: user) }
  }

  package func affiliations(of user: UserID, atLeast version: Int64) async throws -> Affiliations {
    if let known = current(user), known.version >= version { return known }
    return try await reload(user)
  }

  package func affiliations(
    atLeast versions: [UserID: Int64]
  ) async throws -> [UserID: Affiliations] {
    var affiliations: [UserID: Affiliations] = [:]
    var missing: [UserID] = []
    for (user, version) in versions {
      if let known = current(user), known.version >= version {
        affiliations[user] = known
      } else {
        missing.append(user)
      }
    }
    if missing.isEmpty { return affiliations }
    let users = missing
    let read = try await database.readUrgently {
      try await AffiliationStore.affiliations(of: users, in: $0)
    }
    for (user, found) in read { keep(found, of: user) }
    return affiliations.merging(read) { _, read in read }
  }

  package func reload(_ user: UserID) async throws -> Affiliations {
    let read = try await database.read {
      try await AffiliationStore.affiliations(of: [user], in: $0)
    }
    guard let affiliations = read[user] else { throw AppError(.unavailable) }
    keep(affiliations, of: user)
    return affiliations
  }

  /// Updates the accounts in memory to these versions, in the caller's transaction, for a node that compares itself
  /// with the database.
  package func refresh(
    _ versions: [UserID: Int64], in transaction: Transaction
  ) async throws {
    let outdated = versions.filter { note($0.key, version: $0.value) }.map(\.key)
      .prefix(Self.maximumRefreshed)
    for start in stride(from: 0, to: outdated.count, by: Self.accountsPerRead) {
      let users = Array(outdated[start..<min(start + Self.accountsPerRead, outdated.count)])
      for (user, read) in try await AffiliationStore.affiliations(of: users, in: transaction) {
        keep(read, of: user)
      }
    }
  }

  private func keep(_ affiliations: Affiliations, of user: UserID) {
    state.withLock { state in
      if let least = state.leastVersions.value(for: user), least > affiliations.version { return }
      if let known = state.known.value(for: user), known.version > affiliations.version { return }
      state.known.insert(affiliations, for: user)
    }
  }

  /// Notes that the account has this version now. Returns whether memory held an older version, which is dropped.
  @discardableResult
  package func note(_ user: UserID, version: Int64) -> Bool {
    state.withLock { state in
      if version > state.leastVersions.value(for: user) ?? 0 {
        state.leastVersions.insert(version, for: user)
      }
      guard let known = state.known.value(for: user), known.version < version else { return false }
      state.known.remove(user)
      return true
    }
  }

  /// Drops everything, because the database was replaced or restored.
  package func removeAll() { state.withLock { $0 = State() } }

  /// Call this in the transaction that changes the memberships of accounts. It raises their versions, and announces that
  /// to every node once it is committed. After that, no message enters whose permission was based on the earlier
  /// memberships. Call it once, after everything that the transaction does to rooms (`RowLock`).
  package func changed(_ users: [UserID], in transaction: Transaction) async throws {
    let versions = try await AffiliationStore.raiseVersions(of: users, in: transaction)
    transaction.afterCommit { [events] in
      events.publish(versions.map { .access(.affiliationsChanged($0.key, version: $0.value)) })
    }
  }
}
