package import Access
package import Basics
package import Database
package import Events
internal import Synchronization

/// What the accounts seen lately belong to, in memory, each at the newest version known here.
///
/// A change made on this node or heard of from another is noted as a version; whoever needs the account
/// then reads it. What was read before such a note is never kept after it.
package final class MembershipDirectory: Memberships {
  private let database: any SQLDatabase
  private let events: EventStream
  private struct State {
    var known = BoundedCache<UserID, Affiliations>(capacity: MembershipDirectory.capacity)
    /// Versions that changes named, so that an older reading that ends later is not kept.
    var leastVersions = BoundedCache<UserID, Int64>(capacity: MembershipDirectory.capacity)
  }
  private let state = Mutex(State())

  private static let capacity = 50_000
  /// As many are read by one statement.
  private static let accountsPerRead = 200
  /// As many are read again while this node compares itself with the database. Others are forgotten,
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

  /// Brings what memory has of these accounts to these versions, in a transaction of whoever calls: for
  /// a node that compares itself with the database.
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

  /// Something said that the account is at this version now. Returns whether memory had it as it was
  /// before; that is forgotten.
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

  /// The database is another one, or has gone back: nothing that is known counts.
  package func removeAll() { state.withLock { $0 = State() } }

  /// Call it in the transaction that changes what an account belongs to: raises its version, and tells
  /// every node once that is committed. No message that rests on what was before enters after that.
  /// After all that the transaction does to rooms (`RowLock`), and for several accounts in the order of
  /// their ids.
  package func changed(_ user: UserID, in transaction: Transaction) async throws {
    let version = try await AffiliationStore.raiseVersion(of: user, in: transaction)
    transaction.afterCommit { [events] in
      events.publish([.access(.affiliationsChanged(user, version: version))])
    }
  }
}
