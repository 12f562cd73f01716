internal import Basics
package import Database

/// The key by which nodes of one database know each other's frames. Kept in the database: whoever can read that
/// is one of them.
package enum FanoutKey {
  /// The key, made by `make` where there is none. Throws `DatabaseError` where what is stored cannot be read.
  package static func read(
    from database: any SQLDatabase, make: @escaping @Sendable () -> String
  ) async throws -> String {
    try await InstanceValue.read("fanout_key", from: database, make: make)
  }

  /// Which database this is, as no copy of it is: a copy holds the same key, and must not be taken for a node of
  /// the original. Throws `DatabaseError` where Postgres does not say.
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
