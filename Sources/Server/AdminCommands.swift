internal import Access
internal import Accounts
internal import Basics
internal import Chat
internal import Crypto
internal import Database
internal import EventLoop
internal import Events
internal import Relay
internal import Web

/// What an operator does from the command line, also beside a server that runs: both write to the same
/// database, and the server sees the change within a second.
struct AdminCommands {
  private let settings: Settings
  private let log: Log
  private let loop = Loop(name: "admin")

  init(_ settings: Settings) {
    self.settings = settings
    log = Log(level: .warning, format: .text)
  }

  /// Throws where there is no database: none of these commands makes one.
  private func withDatabase<Result: Sendable>(
    _ body: @escaping @Sendable (any SQLDatabase) async throws -> Result
  ) throws -> Result {
    if settings.database.reveal().isEmpty {
      let path = Storage.databasePath(settings)
      guard FileSystem.exists(path) else {
        throw SettingsError(
          "There is no database at \(path). MARTLET_DATA names the directory of the server's data.")
      }
    }
    let database = try Storage.open(
      settings, metrics: DatabaseMetrics(Metrics()), log: log, loops: [loop])
    return try loop.runBlocking {
      let outcome: Swift.Result<Result, any Error>
      do { outcome = .success(try await body(database)) } catch { outcome = .failure(error) }
      await database.close()
      return try outcome.get()
    }
  }

  private func withAccounts<Result: Sendable>(
    _ body: @escaping @Sendable (AccountService) async throws -> Result
  ) throws -> Result {
    try withDatabase { [settings] database in
      let lane = Lane(name: "password", threads: 1, maximumWaiting: 1)
      let events = EventStream(fanout: InProcessFanout())
      let accounts = AccountService(
        database: database, events: events, tokens: try await AccountUpkeep.tokens(from: database),
        memberships: MembershipDirectory(database: database, events: events), hashing: lane,
        settings: settings)
      return try await body(accounts)
    }
  }

  /// Brings the schema up to date, and makes the database where there is none.
  func migrate() throws -> String {
    let database = try Storage.open(
      settings, metrics: DatabaseMetrics(Metrics()), log: log, loops: [loop])
    try loop.runBlocking { await database.close() }
    return "The schema is up to date."
  }

  /// Gives the log another name, after an older state of the database was restored.
  func renewEpoch() throws -> String {
    try withDatabase { database in
      try await database.write(.essential) {
        try await Epoch.renew(to: Base64URL.encode(SecretBytes.random(9)), in: $0)
      }
    }
    return "The log has a new epoch. Clients that resume are told to reload."
  }

  func grant(email: String) throws -> String {
    guard try withAccounts({ try await $0.grantPlatformAdmin(email: email) }) else {
      throw SettingsError("There is no account with the address \(email).")
    }
    Log(level: .notice, format: settings.logFormat).notice(
      "audit", ["act": "grant_platform_admin", "email": .string(email), "by": "command line"])
    return "\(email) is a platform admin."
  }

  func resetPassword(email: String) throws -> String {
    guard let password = try withAccounts({ try await $0.resetPassword(email: email) }) else {
      throw SettingsError("There is no account with the address \(email).")
    }
    Log(level: .notice, format: settings.logFormat).notice(
      "audit", ["act": "reset_password", "email": .string(email), "by": "command line"])
    return "The new password of \(email) is \(password.reveal())\nOpen sessions have ended."
  }

  /// A consistent copy of the embedded database, while the server runs.
  func backup(to file: String) throws -> String {
    guard settings.database.reveal().isEmpty else {
      throw SettingsError("`backup` is for the embedded database; use pg_dump for Postgres.")
    }
    guard !FileSystem.exists(file) else {
      throw SettingsError("\(file) exists; a backup never overwrites.")
    }
    let source = Storage.databasePath(settings)
    guard FileSystem.exists(source) else {
      throw SettingsError("There is no database at \(source).")
    }
    // A server that starts on the copy is another history: its clients must reload.
    try SQLiteDatabase.backup(from: source, to: file, changes: [Epoch.forget])
    return "Saved to \(file). To restore, put it at \(source) while no server runs."
  }

  /// Every route and every frame with its policy, one a line.
  func routes() throws -> String {
    var lines = try MartletServer.describeRoutes(settings).map { route in
      let method = route.kind == .webSocket ? "WS" : route.method.rawValue
      return "\(pad(method, 7)) \(pad(route.pattern, 44)) \(route.policy.description)"
    }
    lines += RelayRoutes.frames.map { frame in
      "\(pad("FRAME", 7)) \(pad("\(frame.socket) \(frame.type)", 44)) \(frame.policy)"
    }
    return lines.joined(separator: "\n")
  }

  private func pad(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
  }

  /// docs/CONFIGURATION.md, from the table of settings.
  static func settingsPage() -> String {
    var page = """
      # Configuration

      Settings come from the environment, or from a file of `NAME=value` lines named by `--config`; the
      environment wins. An unknown `MARTLET_` name stops the start. This page is what `martlet settings`
      prints; a test compares them.

      | Setting | Default | Meaning |
      |---|---|---|
      """
    for entry in Settings.table {
      let standard = entry.defaultText == "-" ? "unset" : "`\(entry.defaultText)`"
      page += "\n| `\(entry.name)` | \(standard) | \(entry.meaning) |"
    }
    return page
  }
}
