internal import Access
package import Basics
internal import Crypto
package import Database
package import Events
internal import Words

/// What operators and platform admins may do with accounts. Servers that run on the same database notice a change within a
/// second. If there is no such account, nothing happens, and the result says so. Everything is recorded (`AuditTrail`).
package struct AccountAdministration: Sendable {
  private let database: any SQLDatabase
  private let events: EventStream
  private let memberships: MembershipDirectory

  private static let passwordBytes = 15
  private static let accountsPerRead: Int64 = 500

  package init(
    database: any SQLDatabase, events: EventStream, memberships: MembershipDirectory
  ) {
    self.database = database
    self.events = events
    self.memberships = memberships
  }

  /// Makes an account that is a platform admin, and returns its password; nil if the address is taken. Throws
  /// `validation_failed` if the address or the name is not valid.
  package func createPlatformAdmin(email: String, name: String) async throws -> Secret<String>? {
    guard AccountRules.isEmailAddress(email) else {
      throw AppError(.validationFailed, "\(email) is no e-mail address.")
    }
    guard AccountRules.isName(name) else {
      throw AppError(
        .validationFailed,
        "A name has \(AccountRules.nameLength.lowerBound) to \(AccountRules.nameLength.upperBound) characters."
      )
    }
    let password = Base64URL.encode(SecretBytes.random(Self.passwordBytes))
    let hash = try Self.hash(password)
    let user = User(id: .make(), email: email, name: name, isPlatformAdmin: true)
    let isNew = try await database.write(.essential) { transaction in
      guard try await AccountStore.insert(user, passwordHash: hash, at: .now, in: transaction)
      else { return false }
      try await AuditTrail.record(
        .platformAdminMade, on: .user(user.id), by: .commandLine, in: transaction)
      return true
    }
    return isNew ? Secret(password) : nil
  }

  /// Takes effect within a second, also for open sessions. Returns false if there is no such account.
  package func setPlatformAdmin(_ isAdmin: Bool, email: String) async throws -> Bool {
    try await change(.email(email)) { user, transaction in
      try await AccountStore.setPlatformAdmin(isAdmin, of: user, in: transaction)
      try await memberships.changed([user], in: transaction)
      try await AuditTrail.record(
        isAdmin ? .platformAdminMade : .platformAdminUnmade, on: .user(user), by: .commandLine,
        in: transaction)
    } != nil
  }

  /// Disables log-in and ends the account's sessions, or enables log-in again. Returns the account after that. A
  /// repeated suspension replaces the reason.
  package func setSuspended(
    _ isSuspended: Bool, reason: String? = nil, _ account: AccountSelector, by actor: AuditActor
  ) async throws -> AccountSummary? {
    try await change(account) { user, transaction in
      try await AccountStore.setSuspended(
        at: isSuspended ? .now : nil, reason: isSuspended ? reason : nil, user, in: transaction)
      if isSuspended { try await endSessions(of: user, in: transaction) }
      try await AuditTrail.record(
        isSuspended ? .userSuspended : .userRestored, on: .user(user), by: actor, in: transaction)
    }
  }

  /// Sets a new password, ends all sessions, and returns the password; nil if there is no such account.
  package func resetPassword(email: String) async throws -> Secret<String>? {
    let password = Base64URL.encode(SecretBytes.random(Self.passwordBytes))
    let hash = try Self.hash(password)
    let changed = try await change(.email(email)) { user, transaction in
      try await AccountStore.setPasswordHash(hash, of: user, in: transaction)
      try await endSessions(of: user, in: transaction)
      try await AuditTrail.record(
        .passwordReset, on: .user(user), by: .commandLine, in: transaction)
    }
    return changed == nil ? nil : Secret(password)
  }

  /// Calls `body` with all platform admins and suspended accounts, or with `all` every account, in the order in which
  /// they were made (to the millisecond).
  package func forEach(
    all: Bool, _ body: @escaping @Sendable (User, _ createdAt: Timestamp) -> Void
  ) async throws {
    var after = UserID(.zero)
    while true {
      let place = after
      let found = try await database.read {
        try await AccountStore.users(
          after: place, onlySpecial: !all, limit: Self.accountsPerRead, in: $0)
      }
      for (user, createdAt) in found { body(user, createdAt) }
      guard let last = found.last, found.count == Self.accountsPerRead else { return }
      after = last.user.id
    }
  }

  /// Returns accounts, the newest first, behind a place in that order; `limit` + 1 if there are more than `limit`. With a
  /// query only those whose name has its words, the last one at least as the beginning of one, or whose address begins
  /// with it.
  package func list(
    _ query: String?, behind place: (time: Timestamp, id: UserID)?, limit: Int
  ) async throws -> [AccountSummary] {
    let pattern = query.flatMap { SearchPattern($0) }
    let key = query.map { AccountStore.key($0) }
    return try await database.read { transaction in
      var found: [AccountSummary] = []
      var place = place
      let step = query == nil ? limit + 1 : Int(Self.accountsPerRead)
      while true {
        let accounts = try await AccountStore.summaries(
          behind: place, limit: step, in: transaction)
        for account in accounts where found.count <= limit {
          let isFound =
            key.map { AccountStore.key(account.user.email).hasPrefix($0) } ?? true
            || pattern.map { $0.matches(SearchWords.split(account.user.name)) } ?? false
          if isFound { found.append(account) }
        }
        guard let last = accounts.last, accounts.count == step, found.count <= limit else {
          return found
        }
        place = (last.createdAt, last.user.id)
      }
    }
  }

  private func change(
    _ account: AccountSelector,
    _ body: @escaping @Sendable (UserID, Transaction) async throws -> Void
  ) async throws -> AccountSummary? {
    try await database.write(.essential) { transaction in
      let user =
        switch account {
        case .id(let id): try await AccountStore.userForChange(id, in: transaction)?.id
        case .email(let email):
          try await AccountStore.userForChange(email: email, in: transaction)?.user.id
        }
      guard let user else { return nil }
      try await body(user, transaction)
      return try await AccountStore.summary(user, in: transaction)
    }
  }

  private func endSessions(of user: UserID, in transaction: Transaction) async throws {
    let ended = try await AccountStore.endAll(of: user, but: nil, at: .now, in: transaction)
    events.announceEnd(of: ended, in: transaction)
  }

  /// Runs on this thread: a command line has nothing else to do.
  private static func hash(_ password: String) throws -> String {
    guard let hash = PasswordHash.make(password) else {
      throw AppError(.unavailable, "There is no memory for hashing a password.")
    }
    return hash
  }
}

extension EventStream {
  /// Announces to every node that sessions have ended, once that is committed.
  func announceEnd(of sessions: [SessionID], in transaction: Transaction) {
    transaction.afterCommit { self.publish(sessions.map { .access(.sessionEnded($0)) }) }
  }
}
