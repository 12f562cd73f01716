package import Accounts
package import Basics
package import Database

/// What changed in rooms, for the comparison of nodes with the database.
package enum RoomChanges {
  /// Rooms whose access changed since a position, with their versions; deleted ones as well.
  package static func since(
    _ position: ChangePosition, in transaction: Transaction
  ) async throws -> [RoomID: Int64] {
    try await RoomStore.changes(since: position, in: transaction)
  }
}
