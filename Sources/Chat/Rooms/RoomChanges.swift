package import Accounts
package import Basics
package import Database

/// Finds what changed in rooms, for a node's comparison with the database.
package enum RoomChanges {
  /// Returns the access versions of the rooms whose access changed at a position or after it, including deleted rooms.
  package static func since(
    _ position: ChangePosition, in transaction: Transaction
  ) async throws -> [RoomID: Int64] {
    var changes: [RoomID: Int64] = [:]
    let rows = try await transaction.query(sql, [.integer(position.value)])
    for row in rows { changes[try row.room(0)] = try row.integer(1) }
    return changes
  }

  // On Postgres a dump brings positions of another cluster with it. They may be beyond all positions of this one and
  // say nothing about changes here.
  private static let sql = SQL(
    sqlite: """
      SELECT room_id, access_version FROM room_heads WHERE changed_in >= $1 AND changed_in > 0
      """,
    postgres: """
      SELECT room_id, access_version FROM room_heads WHERE changed_in >= $1 AND changed_in > 0
        AND changed_in < pg_snapshot_xmax(pg_current_snapshot())::text::bigint
      """)
}
