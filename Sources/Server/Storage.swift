internal import Accounts
internal import Basics
internal import Chat
internal import Database
internal import EventLoop

/// Opens the database that the settings name, with the tables of all features.
enum Storage {
  /// All migrations, in the order in which targets depend on each other.
  static let migrations: [Migration] = AccountSchema.migrations + ChatSchema.migrations

  private static let fileName = "martlet.db"
  private static let searchIndexName = "search.db"
  private static let searchReaders = 2
  private static let lockName = "martlet.lock"

  static func databasePath(_ settings: Settings) -> String { "\(settings.data)/\(fileName)" }

  /// The path of the embedded database, for commands that must not create one. Throws a sentence for the operator if
  /// there is none.
  static func existingDatabase(_ settings: Settings) throws -> String {
    let path = databasePath(settings)
    guard FileSystem.exists(path) else {
      throw SettingsError(
        "There is no database at \(path). MARTLET_DATA names the directory of the server's data.")
    }
    return path
  }

  /// Locks the data directory for the life of this process. Throws a sentence for the operator if another server
  /// holds the lock.
  static func lock(_ settings: Settings) throws {
    do {
      try FileSystem.makeDirectory(settings.data)
      guard try FileSystem.lockForLifetime("\(settings.data)/\(lockName)") else {
        throw SettingsError("Another Martlet is using the data directory \(settings.data).")
      }
    } catch let error as SystemError {
      throw SettingsError(
        "MARTLET_DATA: the data directory \(settings.data) cannot be used: \(error).")
    }
  }

  /// Opens the database. Only commands do so without `lock`, since a server may be running: the two take turns as
  /// writers.
  static func open(
    _ settings: Settings, _ schema: SchemaPolicy = .bringUpToDate, metrics: DatabaseMetrics,
    log: Log, loops: [Loop]
  ) throws -> any SQLDatabase {
    if let url = settings.database {
      return try PostgresDatabase(
        url: url, migrations: migrations, schema: schema,
        connections: settings.postgresConnections,
        loops: loops, metrics: metrics, log: log)
    }
    return try SQLiteDatabase(
      path: databasePath(settings), migrations: migrations, schema: schema,
      readers: settings.readers,
      disk: DiskReserve(path: settings.data, reserve: Int64(settings.diskReserveBytes)),
      metrics: metrics, log: log)
  }

  // MARK: The search index

  /// Opens the search index of the embedded database. If it cannot be used, or is not of this log, a new one is begun,
  /// since it is made of the log. On Postgres the index is in the database itself.
  static func openSearchIndex(
    _ settings: Settings, of database: any SQLDatabase, epoch: String, log: Log
  ) async throws -> any SQLDatabase {
    guard settings.database == nil else { return database }
    do {
      if let index = try await searchIndex(settings, ofLog: epoch, log: log) { return index }
      log.notice("search_index_outdated")
    } catch {
      log.warning("search_index_unusable", ["cause": .init("\(error)")])
    }
    for part in ["", "-wal", "-shm"] {
      FileSystem.remove("\(settings.data)/\(searchIndexName)\(part)")
    }
    guard let index = try await searchIndex(settings, ofLog: epoch, log: log) else {
      throw SettingsError("The search index in \(settings.data) cannot be made.")
    }
    return index
  }

  /// Nil if the index is not of this log.
  private static func searchIndex(
    _ settings: Settings, ofLog epoch: String, log: Log
  ) async throws -> SQLiteDatabase? {
    let index = try SQLiteDatabase(
      path: "\(settings.data)/\(searchIndexName)", .derived(from: databasePath(settings)),
      migrations: SearchIndexFile.migrations, readers: searchReaders,
      disk: DiskReserve(path: settings.data, reserve: Int64(settings.diskReserveBytes)),
      // The metrics of the database are about commits that somebody waits for.
      metrics: DatabaseMetrics(Metrics()), log: log)
    do {
      if try await SearchIndexFile.belongs(to: epoch, index) { return index }
    } catch {
      await index.close()
      throw error
    }
    await index.close()
    return nil
  }
}
