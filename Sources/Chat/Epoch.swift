internal import Basics
package import Database

/// The name of this installation's log. A client's cursor counts within one log only; whoever resumes
/// names the one that the cursor is of.
///
/// Made at the first start, and again where the log was replaced by an older one: in the copy that a
/// backup is, and by `martlet renew-epoch` after a database was restored by other means.
package enum Epoch {
  /// The name, made by `make` where there is none.
  package static func read(
    from database: any SQLDatabase, make: @escaping @Sendable () -> String
  ) async throws -> String {
    try await InstanceValue.read("epoch", from: database, make: make)
  }

  /// The name as the database has it; nil between a restored backup and the first start on it.
  package static func current(in transaction: Transaction) async throws -> String? {
    try await InstanceValue.current("epoch", in: transaction)
  }

  /// Gives the log another name. Servers that run see it at their next comparison.
  package static func renew(to epoch: String, in transaction: Transaction) async throws {
    try await transaction.exclusively()
    _ = try await transaction.pipeline([
      forget, Statement("INSERT INTO instance (key, value) VALUES ('epoch', $1)", [.text(epoch)]),
    ])
  }

  /// Lets the next start make a new name: for the copy that a backup is.
  package static let forget = Statement("DELETE FROM instance WHERE key = 'epoch'")
}
