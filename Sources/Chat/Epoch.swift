internal import Basics
package import Database

/// The name of this installation's log. A cursor is valid in one log only, so a client that resumes names the log
/// that its cursor belongs to.
///
/// Made at the first start. Made anew when the log was replaced by an older one: in the copy that a backup is, and by
/// `martlet renew-epoch` after a database was restored by other means.
package enum Epoch {
  /// Reads the epoch, or stores the result of `make` if there is none.
  package static func read(
    from database: any SQLDatabase, make: @escaping @Sendable () -> String
  ) async throws -> String {
    try await InstanceValue.read("epoch", from: database, make: make)
  }

  /// The epoch in the database. Nil between the restore of a backup and the first start on it.
  package static func current(in transaction: Transaction) async throws -> String? {
    try await InstanceValue.current("epoch", in: transaction)
  }

  /// Gives the log a new epoch. Running servers notice it at their next comparison.
  package static func renew(to epoch: String, in transaction: Transaction) async throws {
    try await transaction.exclusively()
    _ = try await transaction.pipeline([
      forget, Statement("INSERT INTO instance (key, value) VALUES ('epoch', $1)", [.text(epoch)]),
    ])
  }

  /// Removes the epoch, so that the next start makes a new one. For the copy that a backup is.
  package static let forget = Statement("DELETE FROM instance WHERE key = 'epoch'")
}
