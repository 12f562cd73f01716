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

  /// Takes the data directory for the life of this process. Throws a sentence for the operator where
  /// another server holds it.
  static func lock(_ settings: Settings) throws {
    try FileSystem.makeDirectory(settings.data)
    guard try FileSystem.lockForLifetime("\(settings.data)/\(lockName)") else {
      throw SettingsError("Another Martlet is using the data directory \(settings.data).")
    }
  }

  /// Opens the database and brings its schema up to date. Without `lock` only beside a server that
  /// runs: its writer and this one take turns.
  static func open(
    _ settings: Settings, metrics: DatabaseMetrics, log: Log, loops: [Loop]
  ) throws -> any SQLDatabase {
    try FileSystem.makeDirectory(settings.data)
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
