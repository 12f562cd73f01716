package import Access
package import Accounts
package import Basics
package import Database

/// Finds whose presence somebody may know: that of the people in their circle.
package struct PresenceReader: Sendable {
  private let database: any SQLDatabase
  private let circle: Circle

  package init(database: any SQLDatabase, circle: Circle) {
    self.database = database
    self.circle = circle
  }

  /// Returns those of the people who are in the caller's circle, with what the database knows about them.
  package func watchable(
    _ users: [UserID], by caller: Caller
  ) async throws -> [UserID: PresenceFacts] {
    try await database.read { transaction in
      let known = try await self.circle.members(among: users, of: caller.userID, in: transaction)
      let facts = try await People.presence(of: Array(known), in: transaction)
      // People of another system have no account, but they may write in rooms.
      return Dictionary(
        uniqueKeysWithValues: known.map { ($0, facts[$0] ?? PresenceFacts()) })
    }
  }
}
