internal import Database

/// A value that exists once per installation, by its key in the table `instance`.
enum InstanceValue {
  /// Reads the value, or stores the result of `make` if there is none.
  static func read(
    _ key: String, from database: any SQLDatabase, make: @escaping @Sendable () -> String
  ) async throws -> String {
    try await database.write(.essential) { transaction in
      // Nodes that start at the same time must end up with the same value.
      try await transaction.exclusively()
      if let known = try await current(key, in: transaction) { return known }
      let value = make()
      try await transaction.execute(
        "INSERT INTO instance (key, value) VALUES ($1, $2)", [.text(key), .text(value)])
      return value
    }
  }

  /// Returns the value, or nil if there is none.
  static func current(_ key: String, in transaction: Transaction) async throws -> String? {
    try await transaction.first("SELECT value FROM instance WHERE key = $1", [.text(key)])?.text(0)
  }
}
