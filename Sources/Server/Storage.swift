internal import Accounts
internal import Basics
internal import Chat
internal import Database
internal import EventLoop

/// Opens the database that the settings name, with everyone's tables.
enum Storage {
  /// All migrations, in the order of the arrows between targets.
  static let migrations: [Migration] = AccountSchema.migrations + ChatSchema.migrations

  private static let fileName = "martlet.db"
  private static let lockName = "martlet.lock"

  static func databasePath(_ settings: Settings) -> String { "\(settings.data)/\(fileName)" }

  /// Throws a sentence for the operator where the directory is held by another server.
  static func open(
    _ settings: Settings, metrics: DatabaseMetrics, log: Log, loops: [EventLoop]
  ) async throws -> any Database {
    try FileSystem.makeDirectory(settings.data)
    guard try FileSystem.lockForLifetime("\(settings.data)/\(lockName)") else {
      throw SettingsError("Another Martlet is using the data directory \(settings.data).")
    }
    if !settings.database.reveal().isEmpty {
      return try PostgresDatabase(
        url: settings.database, migrations: migrations, connections: settings.postgresConnections,
        loops: loops, metrics: metrics, log: log)
    }
    return try SQLiteDatabase(
      path: databasePath(settings), migrations: migrations, readers: settings.readers,
      disk: DiskReserve(path: settings.data, reserve: Int64(settings.diskReserveBytes)),
      metrics: metrics, log: log)
  }
}
