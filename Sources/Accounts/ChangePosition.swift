package import Database

/// A position in the database's own order of changes, used to read what changed since. It involves no machine's
/// clock.
///
/// Rows carry the position of their last change in `changed_in`. The rows at a position or beyond are those that
/// changed since; the next position is read in the same snapshot. Some rows are returned twice, but none is missed.
///
/// On Postgres the numbers of a sequence become visible in another order than they were assigned. So the position
/// there is the id of the oldest transaction that had not ended, compared with the id of the transaction that changed
/// the row: https://www.postgresql.org/docs/15/functions-info.html#FUNCTIONS-PG-SNAPSHOT
package struct ChangePosition: Sendable, Equatable {
  package let value: Int64

  /// Before every change.
  package static let start = ChangePosition(value: 1)

  /// The position from which to continue after this snapshot.
  package static func next(in transaction: Transaction) async throws -> ChangePosition {
    let row = try await transaction.first(nextSQL)
    guard let row else { throw DatabaseError(kind: .other, message: "no position of changes") }
    return ChangePosition(value: try row.integer(0))
  }

  private static let nextSQL = SQL(
    sqlite: "SELECT value + 1 FROM change_counter",
    postgres: "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
}
