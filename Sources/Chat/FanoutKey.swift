internal import Basics
package import Database

/// The key with which the nodes of one database authenticate each other's frames. It is stored in the database: a
/// process that can read the database counts as one of its nodes.
package enum FanoutKey {
  /// Reads the key, or stores the result of `make` if there is none. Throws `DatabaseError` if the stored key cannot
  /// be read.
  package static func read(
    from database: any SQLDatabase, make: @escaping @Sendable () -> String
  ) async throws -> String {
    try await InstanceValue.read("fanout_key", from: database, make: make)
  }

  /// Identifies this database among its own copies. A copy holds the same key, and must not be taken for a node of the
  /// original. Always empty on SQLite, which has a single node. Throws `DatabaseError` if Postgres refuses to report
  /// it.
  package static func identity(of database: any SQLDatabase) async throws -> String {
    try await database.read { try await $0.first(identitySQL)?.text(0) ?? "" }
  }

  // https://www.postgresql.org/docs/15/functions-info.html#FUNCTIONS-INFO-CONTROLDATA
  private static let identitySQL = SQL(
    sqlite: "SELECT ''",
    postgres: """
      SELECT (SELECT system_identifier FROM pg_control_system())::text || ':' || oid::text
        FROM pg_database WHERE datname = current_database()
      """)
}
