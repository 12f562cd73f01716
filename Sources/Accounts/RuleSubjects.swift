package import Access
package import Basics
package import Database

/// What the ids in rules of rooms refer to on this server.
package enum RuleSubjects {
  /// Those of the ids that belong to an organization or a team.
  package static func groups(
    among ids: [UUID], in transaction: Transaction
  ) async throws -> Set<UUID> {
    Set(try await transaction.query(groupsSQL, [.uuids(ids)]).map { try $0.uuid(0) })
  }

  /// The memberships of an account; none if there is no such account.
  package static func affiliations(
    of user: UserID, in transaction: Transaction
  ) async throws -> Affiliations {
    try await AffiliationStore.affiliations(of: [user], in: transaction)[user]
      ?? Affiliations(version: 0)
  }

  /// `$1` is a list of ids (`SQLValue.uuids`).
  private static let groupsSQL = SQL(
    sqlite: """
      WITH RECURSIVE list (i) AS (
        SELECT 0 UNION ALL SELECT i + 1 FROM list WHERE (i + 1) * 16 < length($1))
      SELECT id FROM organizations WHERE id IN (SELECT substr($1, i * 16 + 1, 16) FROM list)
      UNION SELECT id FROM teams WHERE id IN (SELECT substr($1, i * 16 + 1, 16) FROM list)
      """,
    postgres: """
      WITH list (id) AS (
        SELECT substring($1::bytea FROM i * 16 + 1 FOR 16)
        FROM generate_series(0, length($1::bytea) / 16 - 1) AS i)
      SELECT id FROM organizations WHERE id IN (SELECT id FROM list)
      UNION SELECT id FROM teams WHERE id IN (SELECT id FROM list)
      """)
}
