package import Basics
package import Database

/// The versions of memberships, for transactions whose decision depends on them.
package enum AffiliationVersions {
  /// Reads and locks the versions; 0 for accounts without a row, which have no memberships. Nobody changes the others
  /// until the transaction ends.
  package static func lock(
    _ users: Set<UserID>, in transaction: Transaction
  ) async throws -> [UserID: Int64] {
    try transaction.willLock(.affiliationVersions)
    let users = users.sorted { $0.uuid < $1.uuid }
    let results = try await transaction.pipeline(users.map { Statement(lockSQL, [.id($0)]) })
    var versions: [UserID: Int64] = [:]
    for (user, result) in zip(users, results) {
      versions[user] = try result.rows.first?.integer(0) ?? 0
    }
    return versions
  }

  private static let lockSQL = SQL(
    // On SQLite there is only one writer at a time.
    sqlite: "SELECT version FROM affiliation_versions WHERE user_id = $1",
    postgres: "SELECT version FROM affiliation_versions WHERE user_id = $1 FOR SHARE")
}
