package import Database

/// A place in the database's own order of changes, for reading what changed since. No clock of any
/// machine is in it.
///
/// Rows that may change carry the position of their last change in `changed_in`. What changed since a
/// position are the rows at it or beyond; the position to go on from is read in the same snapshot. Some
/// rows come twice; none is missed.
///
/// On Postgres the numbers of a sequence become visible in another order than they were given, so it is
/// the transaction's id, and the position is the oldest transaction that had not ended:
/// https://www.postgresql.org/docs/15/functions-info.html#FUNCTIONS-PG-SNAPSHOT
package struct ChangePosition: Sendable, Equatable {
  package let value: Int64

  /// Everything that ever changed is beyond it.
  package static let start = ChangePosition(value: 1)

  /// Where to go on from, after what this snapshot shows.
  package static func next(in transaction: Transaction) async throws -> ChangePosition {
    let row = try await transaction.first(nextSQL)
    guard let row else { throw DatabaseError(kind: .other, message: "no position of changes") }
    return ChangePosition(value: try row.integer(0))
  }

  private static let nextSQL = SQL(
    sqlite: "SELECT value + 1 FROM change_counter",
    postgres: "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
}
