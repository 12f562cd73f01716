package import Basics
package import Database

/// Finds what changed in accounts, for a node's comparison with the database.
package enum AccountChanges {
  /// Sessions that ended since a position, and the versions of changed memberships.
  package static func since(
    _ position: ChangePosition, in transaction: Transaction
  ) async throws -> (ended: [SessionID], affiliations: [UserID: Int64]) {
    let results = try await transaction.pipeline([
      Statement(endedSQL, [.integer(position.value)]),
      Statement(affiliationsSQL, [.integer(position.value)]),
    ])
    guard results.count == 2 else { throw DatabaseError(kind: .other, message: "no results") }
    var affiliations: [UserID: Int64] = [:]
    for row in results[1].rows { affiliations[try row.id(0)] = try row.integer(1) }
    return (try results[0].rows.map { try $0.id(0) }, affiliations)
  }

  /// All sessions that ended and still have a row.
  package static func allEndedSessions(in transaction: Transaction) async throws -> [SessionID] {
    try await transaction.query("SELECT id FROM sessions WHERE ended_at IS NOT NULL").map {
      try $0.id(0)
    }
  }

  // On Postgres a dump brings positions of another cluster with it. They may be beyond all positions of this one and
  // say nothing about changes here.
  private static let endedSQL = SQL(
    sqlite: """
      SELECT id FROM sessions WHERE changed_in >= $1 AND changed_in > 0 AND ended_at IS NOT NULL
      """,
    postgres: """
      SELECT id FROM sessions WHERE changed_in >= $1 AND changed_in > 0 AND ended_at IS NOT NULL
        AND changed_in < pg_snapshot_xmax(pg_current_snapshot())::text::bigint
      """)

  private static let affiliationsSQL = SQL(
    sqlite: "SELECT user_id, version FROM affiliation_versions WHERE changed_in >= $1",
    postgres: """
      SELECT user_id, version FROM affiliation_versions WHERE changed_in >= $1
        AND changed_in < pg_snapshot_xmax(pg_current_snapshot())::text::bigint
      """)
}
