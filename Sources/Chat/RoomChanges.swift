package import Accounts
package import Basics
package import Database

/// What changed in rooms, for the comparison of nodes with the database.
package enum RoomChanges {
  /// Rooms whose access changed since a position, with their versions; deleted ones as well.
  package static func since(
    _ position: ChangePosition, in transaction: Transaction
  ) async throws -> [RoomID: Int64] {
    var changes: [RoomID: Int64] = [:]
    let rows = try await transaction.query(sql, [.integer(position.value)])
    for row in rows { changes[try row.room(0)] = try row.integer(1) }
    return changes
  }

  // On Postgres a dump brings positions of another cluster's with it, which may be beyond all of this one's:
  // they tell of no change.
  private static let sql = SQL(
    sqlite: """
      SELECT room_id, access_version FROM room_heads WHERE changed_in >= $1 AND changed_in > 0
      """,
    postgres: """
      SELECT room_id, access_version FROM room_heads WHERE changed_in >= $1 AND changed_in > 0
        AND changed_in < pg_snapshot_xmax(pg_current_snapshot())::text::bigint
      """)
}
