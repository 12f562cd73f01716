internal import Basics
package import Database

/// What is known of this installation's log as a whole.
package enum Instance {
  /// The name of the log: made at the first start, and again after a backup was restored, so that no
  /// client takes its cursor from one history into another.
  package static func epoch(
    from database: any SQLDatabase, make: @escaping @Sendable () -> String
  ) async throws -> String {
    try await database.write(.essential) { transaction in
      // Nodes that start together must end up with one name.
      try await transaction.exclusively()
      if let row = try await transaction.first("SELECT value FROM instance WHERE key = 'epoch'") {
        return try row.text(0)
      }
      let epoch = make()
      try await transaction.execute(
        "INSERT INTO instance (key, value) VALUES ('epoch', $1)", [.text(epoch)])
      return epoch
    }
  }

  /// Lets the next start make a new epoch: for the copy that a backup is.
  package static let forgetEpoch = Statement("DELETE FROM instance WHERE key = 'epoch'")
}
