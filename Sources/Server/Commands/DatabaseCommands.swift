internal import Basics
internal import Chat
internal import Crypto
internal import Database
internal import EventLoop

/// The operator's commands for the database. They also work while servers are running.
struct DatabaseCommands {
  private let settings: Settings

  init(_ settings: Settings) { self.settings = settings }

  /// Migrates the schema. Throws if there is no database.
  func migrate() throws -> String {
    try CommandDatabase(settings).use(.bringUpToDate) { _ in }
    return "The schema is up to date."
  }

  /// Gives the database a new epoch, after an older state of it was restored.
  func renewEpoch() throws -> String {
    try CommandDatabase(settings).use { database in
      try await database.write(.essential) {
        try await Epoch.renew(to: Base64URL.encode(SecretBytes.random(9)), in: $0)
      }
    }
    return "The log has a new epoch. Clients that resume are told to reload."
  }

  /// Makes a consistent copy of the embedded database. The server may be running.
  func backup(to file: String) throws -> String {
    guard settings.database == nil else {
      throw SettingsError("`backup` is for the embedded database; use pg_dump for Postgres.")
    }
    guard !FileSystem.exists(file) else {
      throw SettingsError("\(file) exists; a backup never overwrites.")
    }
    let source = try Storage.existingDatabase(settings)
    // A server that starts on the copy has another history, so its clients must reload.
    try SQLiteDatabase.backup(from: source, to: file, changes: [Epoch.forget])
    return "Saved to \(file). To restore, put it at \(source) while no server runs."
  }
}

/// The database for a command: opened beside a server that may be running, used once, and closed.
struct CommandDatabase {
  private let settings: Settings
  private let loop = Loop(name: "command")

  init(_ settings: Settings) { self.settings = settings }

  /// Throws a sentence for the operator if there is no database, or, unless told to migrate it, if its schema belongs
  /// to another release. No command creates a database as a side effect.
  func use<Result: Sendable>(
    _ schema: SchemaPolicy = .mustBeUpToDate,
    _ body: @escaping @Sendable (any SQLDatabase) async throws -> Result
  ) throws -> Result {
    if settings.database == nil { _ = try Storage.existingDatabase(settings) }
    let database = try Storage.open(
      settings, schema, metrics: DatabaseMetrics(Metrics()),
      log: Log(level: .warning, format: .text), loops: [loop])
    return try loop.runBlocking {
      let outcome: Swift.Result<Result, any Error>
      do { outcome = .success(try await body(database)) } catch { outcome = .failure(error) }
      await database.close()
      return try outcome.get()
    }
  }
}
