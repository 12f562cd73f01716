internal import Accounts
internal import Basics
internal import EventLoop
internal import Events

/// The operator's commands for accounts. They also work while a server is running: both write to the same database,
/// and the server notices the change within a second. Each command that changes an account writes a line to the audit
/// log, which is standard error.
struct AccountCommands {
  private let settings: Settings

  init(_ settings: Settings) { self.settings = settings }

  private func withAccounts<Result: Sendable>(
    _ body: @escaping @Sendable (AccountAdministration) async throws -> Result
  ) throws -> Result {
    try CommandDatabase(settings).use { database in
      let events = EventStream(fanout: InProcessFanout())
      return try await body(
        AccountAdministration(
          database: database, events: events,
          memberships: MembershipDirectory(database: database, events: events)))
    }
  }

  func create(email: String, name: String?) throws -> String {
    let name = name ?? String(email.prefix { $0 != "@" })
    let password = try withAccounts { try await $0.createPlatformAdmin(email: email, name: name) }
    guard let password else {
      throw SettingsError("There is an account with the address \(email) already.")
    }
    audit("create_platform_admin", email)
    return "\(email) is a platform admin. The password is \(password.reveal())"
  }

  func grant(email: String) throws -> String {
    try act(on: email, "grant_platform_admin") { try await $0.setPlatformAdmin(true, email: email) }
    return "\(email) is a platform admin."
  }

  func revoke(email: String) throws -> String {
    try act(on: email, "revoke_platform_admin") {
      try await $0.setPlatformAdmin(false, email: email)
    }
    return "\(email) is no platform admin."
  }

  func suspend(email: String) throws -> String {
    try act(on: email, "suspend") {
      try await $0.setSuspended(true, .email(email), by: .commandLine) != nil
    }
    return "\(email) is suspended. Open sessions have ended."
  }

  func restore(email: String) throws -> String {
    try act(on: email, "restore") {
      try await $0.setSuspended(false, .email(email), by: .commandLine) != nil
    }
    return "\(email) may log in again."
  }

  func resetPassword(email: String) throws -> String {
    let password = try withAccounts { try await $0.resetPassword(email: email) }
    guard let password else { throw noAccount(email) }
    audit("reset_password", email)
    return "The new password of \(email) is \(password.reveal())\nOpen sessions have ended."
  }

  /// Prints a line per account: address, special state, creation date and name. Without `all` only platform admins and
  /// suspended accounts are listed.
  func list(all: Bool, _ print: @escaping @Sendable (String) -> Void) throws {
    try withAccounts { accounts in
      try await accounts.forEach(all: all) { user, createdAt in
        let state =
          user.isSuspended ? "suspended" : user.isPlatformAdmin ? "platform admin" : "-"
        let day = createdAt.description.prefix(10)
        print("\(printable(user.email))\t\(state)\t\(day)\t\(printable(user.name))")
      }
    }
  }

  private func act(
    on email: String, _ act: String,
    _ body: @escaping @Sendable (AccountAdministration) async throws -> Bool
  ) throws {
    guard try withAccounts(body) else { throw noAccount(email) }
    audit(act, email)
  }

  private func noAccount(_ email: String) -> SettingsError {
    SettingsError("There is no account with the address \(email).")
  }

  private func audit(_ act: String, _ email: String) {
    Log(level: .notice, format: settings.logFormat).notice(
      "audit", ["act": .string(act), "email": .string(email), "by": "command line"])
  }
}

/// Replaces characters that would move the cursor of a terminal or break the table with `?`, because users choose their
/// names.
private func printable(_ text: String) -> String {
  String(
    String.UnicodeScalarView(
      text.unicodeScalars.map { scalar in
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator: "?"
        default: scalar
        }
      }))
}
