internal import Access
package import Basics
internal import Crypto
package import Database
package import Events

/// The operator's commands for accounts. Servers that run on the same database notice a change within a second.
///
/// An e-mail address selects the account, ignoring case. If there is none, nothing happens, and the result says so.
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
      try await AccountStore.insert(user, passwordHash: hash, at: .now, in: transaction)
    }
    return isNew ? Secret(password) : nil
  }

  /// Takes effect within a second, also for open sessions. Returns false if there is no such account.
  package func setPlatformAdmin(_ isAdmin: Bool, email: String) async throws -> Bool {
    try await change(email) { user, transaction in
      try await AccountStore.setPlatformAdmin(isAdmin, of: user.id, in: transaction)
      try await memberships.changed([user.id], in: transaction)
    }
  }

  /// Ends the account's sessions and disables log-in. Returns false if there is no such account.
  package func suspend(email: String) async throws -> Bool {
    try await change(email) { user, transaction in
      try await AccountStore.setSuspended(at: .now, user.id, in: transaction)
      try await endSessions(of: user, in: transaction)
    }
  }

  /// Undoes `suspend`. Returns false if there is no such account.
  package func restore(email: String) async throws -> Bool {
    try await change(email) { user, transaction in
      try await AccountStore.setSuspended(at: nil, user.id, in: transaction)
    }
  }

  /// Sets a new password, ends all sessions, and returns the password; nil if there is no such account.
  package func resetPassword(email: String) async throws -> Secret<String>? {
    let password = Base64URL.encode(SecretBytes.random(Self.passwordBytes))
    let hash = try Self.hash(password)
    let isDone = try await change(email) { user, transaction in
      try await AccountStore.setPasswordHash(hash, of: user.id, in: transaction)
      try await endSessions(of: user, in: transaction)
    }
    return isDone ? Secret(password) : nil
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

  private func change(
    _ email: String, _ body: @escaping @Sendable (User, Transaction) async throws -> Void
  ) async throws -> Bool {
    try await database.write(.essential) { transaction in
      guard let found = try await AccountStore.userForChange(email: email, in: transaction) else {
        return false
      }
      try await body(found.user, transaction)
      return true
    }
  }

  private func endSessions(of user: User, in transaction: Transaction) async throws {
    let ended = try await AccountStore.endAll(of: user.id, but: nil, at: .now, in: transaction)
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
