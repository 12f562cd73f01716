internal import Access
package import Basics
internal import Crypto
package import Database
package import EventLoop
package import Events

/// The operations on accounts and sessions.
package final class AccountService: Sendable {
  private let database: any SQLDatabase
  private let events: EventStream
  private let tokens: LocalTokens
  private let memberships: MembershipDirectory
  private let hashing: ThreadPool
  private let metrics: AccountMetrics
  private let log: Log
  private let delays = LoginDelays()
  private let recent = RecentUsers()
  private let signUp: AccountConfiguration.SignUp
  private let signUpsByAddress: HourlyLimit<IPAddress.Site>?
  /// Limits the log to one notice per address and hour.
  private let limitedAddresses = HourlyLimit<IPAddress.Site>(1)
  /// Verified if there is no account, so that both failures take the same time.
  private let decoyHash: String

  package init(
    database: any SQLDatabase, events: EventStream, tokens: LocalTokens,
    memberships: MembershipDirectory, hashing: ThreadPool, configuration: AccountConfiguration,
    metrics: AccountMetrics,
    log: Log
  ) {
    self.database = database
    self.events = events
    self.tokens = tokens
    self.memberships = memberships
    self.hashing = hashing
    self.metrics = metrics
    self.log = log
    signUp = configuration.signUp
    signUpsByAddress = configuration.signUpsPerHour.map { HourlyLimit($0) }
    // Only its cost matters. If there is no memory for it, log-ins fail anyway.
    decoyHash = PasswordHash.make("decoy") ?? ""
  }

  // MARK: Passwords

  private func hash(_ password: String, for address: IPAddress?) async throws -> String {
    let hash = try await inHashingPool(for: address) { PasswordHash.make(password) }
    guard let hash else { throw AppError(.unavailable, "The server has no memory for this now.") }
    return hash
  }

  /// Addresses take turns, so that a flood of log-ins from one address delays only itself.
  private func inHashingPool<Result: Sendable>(
    for address: IPAddress?, _ body: @escaping @Sendable () -> Result
  ) async throws -> Result {
    do { return try await hashing.run(for: address?.site) { _ in body() } } catch let full
      as ThreadPool.Full
    {
      throw AppError(
        full.isOwnersShare ? .rateLimited : .unavailable, "Too many log-ins at once; try again.",
        underlying: full)
    }
  }

  // MARK: Log-in

  package func signUp(
    email: String, password: String, name: String, _ client: ClientDescription,
    from address: IPAddress
  ) async throws -> Grant {
    switch signUp {
    case .open: break
    case .invited: throw AppError(.signupInvited)
    case .closed: throw AppError(.signupClosed)
    }
    if let seconds = signUpsByAddress?.take(address.site) {
      metrics.limitedSignUps.add()
      if limitedAddresses.take(address.site) == nil {
        // Either an office behind one address, or somebody who makes accounts by the dozen.
        log.notice(
          "sign_ups_limited",
          ["address": .init(address), "setting": "MARTLET_SIGNUPS_PER_HOUR"])
      }
      throw AppError(.rateLimited, retryAfter: seconds)
    }
    let passwordHash = try await hash(password, for: address)
    let user = User(id: .make(), email: email, name: name, isPlatformAdmin: false)
    let session = SessionID.make()
    try await database.write { transaction in
      guard
        try await AccountStore.insert(user, passwordHash: passwordHash, at: .now, in: transaction)
      else { throw AppError(.emailTaken) }
      try await AccountStore.insert(session, of: user.id, client, at: .now, in: transaction)
    }
    return grant(user, session, refreshCount: 0)
  }

  package func logIn(
    email: String, password: String, _ client: ClientDescription, from address: IPAddress
  ) async throws -> Grant {
    var found: (user: User, passwordHash: String)?
    let isRight = try await delays.guarded(AccountStore.key(email), address) {
      found = try await database.read { try await AccountStore.user(email: email, in: $0) }
      let expected = found?.passwordHash ?? decoyHash
      let matches = try await inHashingPool(for: address) {
        PasswordHash.matches(password, hash: expected)
      }
      return matches && found != nil
    }
    guard let found, isRight else {
      metrics.failedLogIns.add()
      throw AppError(.invalidCredentials)
    }
    let session = SessionID.make()
    let user = try await database.write { transaction in
      // While this password was checked, it may have been changed, which ends all sessions.
      guard let now = try await AccountStore.userForChange(email: email, in: transaction),
        now.user.id == found.user.id, now.passwordHash == found.passwordHash
      else { throw AppError(.invalidCredentials) }
      // Told only to somebody who knows the password.
      guard !now.user.isSuspended else { throw AppError(.suspended) }
      try await AccountStore.insert(session, of: now.user.id, client, at: .now, in: transaction)
      return now.user
    }
    return grant(user, session, refreshCount: 0)
  }

  private func grant(_ user: User, _ session: SessionID, refreshCount: Int64) -> Grant {
    let (token, expiresAt) = tokens.makeAccessToken(user: user.id, session: session, now: .now)
    return Grant(
      user: user, accessToken: token, expiresAt: expiresAt,
      refreshToken: tokens.makeRefreshToken(session, count: refreshCount),
      cookie: tokens.makeCookie(session))
  }

  /// The outcome of a refresh.
  package enum RefreshOutcome: Sendable {
    case granted(Grant)
    /// The token was used before, so somebody else has it. Its session has been ended.
    case reused(SessionID)
  }

  /// Exchanges a refresh token for new credentials. Throws `invalid_refresh_token`.
  package func refresh(_ token: String) async throws -> RefreshOutcome {
    guard let (session, count) = tokens.readRefreshToken(token) else {
      throw AppError(.invalidRefreshToken)
    }
    let granted = try await database.write(.essential) {
      transaction -> User? in
      guard let row = try await AccountStore.session(session, in: transaction),
        let user = try await AccountStore.user(row.user, in: transaction)
      else { throw AppError(.invalidRefreshToken) }
      guard
        try await AccountStore.countRefresh(session, from: count, at: .now, in: transaction)
      else {
        _ = try await self.end(session, of: row.user, in: transaction)
        return nil
      }
      return user
    }
    guard let user = granted else { return .reused(session) }
    return .granted(grant(user, session, refreshCount: count + 1))
  }

  // MARK: Ending sessions

  /// Ends one session, and announces that once it is committed.
  private func end(
    _ session: SessionID, of user: UserID, in transaction: Transaction
  ) async throws -> Bool {
    guard try await AccountStore.end(session, of: user, at: .now, in: transaction) else {
      return false
    }
    events.announceEnd(of: [session], in: transaction)
    return true
  }

  /// Throws `session_not_found` if the user has no such session.
  package func endSession(_ session: SessionID, of user: UserID) async throws {
    let hasEnded = try await database.write(.essential) { transaction in
      try await self.end(session, of: user, in: transaction)
    }
    guard hasEnded else { throw AppError(.sessionNotFound) }
  }

  package func endAllSessions(of user: UserID, but kept: SessionID? = nil) async throws {
    try await database.write(.essential) { transaction in
      let ended = try await AccountStore.endAll(of: user, but: kept, at: .now, in: transaction)
      self.events.announceEnd(of: ended, in: transaction)
    }
  }

  /// Logs how to proceed if nobody can sign up and there is no account yet.
  package func noteIfNobodyCanLogIn() async throws {
    guard signUp != .open, try await database.read({ try await !AccountStore.hasUsers(in: $0) })
    else { return }
    log.notice(
      "no_account_yet",
      ["sign_up": .string(signUp.rawValue), "next": "martlet admin create EMAIL"])
  }

  /// The id of the account with this address, or nil; for the audit of failed log-ins.
  package func account(email: String) async throws -> UserID? {
    try await database.read { try await AccountStore.user(email: email, in: $0)?.user.id }
  }

  // MARK: The caller's account

  package func user(_ id: UserID) async throws -> User {
    let user = try await recent.user(id) { [database] in
      try await database.read { try await AccountStore.user(id, in: $0) }
    }
    guard let user else { throw AppError(.invalidToken) }
    return user
  }

  package func rename(_ id: UserID, to name: String) async throws -> User {
    let user = try await database.write { transaction in
      try await AccountStore.setName(name, of: id, in: transaction)
      transaction.afterCommit { self.recent.forget(id) }
      return try await AccountStore.user(id, in: transaction)
    }
    guard let user else { throw AppError(.invalidToken) }
    return user
  }

  /// The user's settings: a JSON object as text.
  package func settings(of id: UserID) async throws -> String {
    try await database.read { try await AccountStore.settings(id, in: $0) } ?? "{}"
  }

  /// The members of settings that the server itself reads. They stay as they are if new settings do not name them.
  private static let ownSettings = ["presence", "seen"]

  /// Replaces the user's settings. Returns them as they are stored. After the commit, tells the user's sockets.
  package func setSettings(_ settings: JSONObject, of id: UserID) async throws -> JSONObject {
    try await database.write { transaction in
      // One transaction at a time for each user, because it keeps a part of what was there.
      try await transaction.exclusively(on: Int64(bitPattern: id.uuid.low))
      let text = try await AccountStore.settings(id, in: transaction) ?? "{}"
      let old = try JSONParser.parse(Array(text.utf8), maximumDepth: .max).object
      var new = settings
      for name in Self.ownSettings where new[name] == nil {
        if let value = old?[name] { new.append(name, value) }
      }
      var writer = JSONWriter()
      writer.value(JSON.object(new))
      try await AccountStore.setSettings(
        String(decoding: writer.bytes, as: UTF8.self), of: id, in: transaction)
      let signal = SettingsSignal(user: id, settings: writer.bytes).signal
      transaction.afterCommit { self.events.publish([.signal(signal)]) }
      return new
    }
  }

  /// Sessions, newest first, after a position in that order. Returns `limit` + 1 if there are more than `limit`.
  package func sessions(
    of id: UserID, behind place: (time: Timestamp, id: SessionID)?, limit: Int
  ) async throws -> [Session] {
    try await database.read {
      try await AccountStore.sessions(of: id, behind: place, limit: limit + 1, in: $0)
    }
  }

  /// Throws `wrong_password` unless this is the user's password. Guessing is slowed down like that of a log-in.
  package func requirePassword(
    _ password: String, of id: UserID, from address: IPAddress
  ) async throws {
    let isRight = try await delays.guarded(id.description, address) {
      let hash = try await database.read { try await AccountStore.passwordHash(id, in: $0) }
      guard let hash else { throw AppError(.invalidToken) }
      return try await inHashingPool(for: address) {
        PasswordHash.matches(password, hash: hash)
      }
    }
    guard isRight else { throw AppError(.wrongPassword) }
  }

  /// Forgets what memory knows about an account that has changed.
  func forget(_ id: UserID) { recent.forget(id) }

  /// Changes the password and ends all other sessions. Throws `wrong_password`.
  package func changePassword(
    of id: UserID, from old: String, to new: String, keeping session: SessionID?,
    from address: IPAddress
  ) async throws {
    try await requirePassword(old, of: id, from: address)
    let newHash = try await self.hash(new, for: address)
    try await database.write(.essential) { transaction in
      try await AccountStore.setPasswordHash(newHash, of: id, in: transaction)
      let ended = try await AccountStore.endAll(of: id, but: session, at: .now, in: transaction)
      self.events.announceEnd(of: ended, in: transaction)
    }
  }
}

/// What accounts need when the server starts and while it runs.
package enum AccountUpkeep {
  /// Reads the signing keys; makes them at the first start. Throws if the stored keys cannot be read.
  package static func tokens(from database: any SQLDatabase) async throws -> LocalTokens {
    let stored = try await database.write(.essential) { transaction in
      // Nodes that start at the same time must end up with the same key.
      try await transaction.exclusively()
      var keys = try await AccountStore.signingKeys(in: transaction)
      if keys.isEmpty {
        let id = Base64URL.encode(SecretBytes.random(6))
        let seed = SecretBytes.random(32)
        try await AccountStore.insertSigningKey(id: id, seed: seed, at: .now, in: transaction)
        keys = [(id, seed)]
      }
      return keys
    }
    let keys = stored.compactMap { SigningKey(id: $0.id, seed: $0.seed) }
    guard let tokens = LocalTokens(keys: keys) else {
      throw DatabaseError(kind: .other, message: "no usable signing key")
    }
    return tokens
  }

  /// The ended sessions, for the start of a node, and the position from which to continue.
  package static func ended(
    in database: any SQLDatabase
  ) async throws -> (sessions: [SessionID], position: ChangePosition) {
    try await database.read { transaction in
      (
        try await AccountChanges.allEndedSessions(in: transaction),
        try await ChangePosition.next(in: transaction)
      )
    }
  }

  private static let endedKeptMilliseconds: Int64 = 86_400_000
  /// How long an unused session is kept.
  private static let unusedKeptMilliseconds: Int64 = 90 * 86_400_000
  private static let sessionsPerSlice: Int64 = 500

  /// Removes sessions that nobody needs any more: ended a day ago, or not used for 90 days. They are searched by
  /// readers and removed in small transactions, so that messages do not wait.
  package static func removeOldSessions(
    in database: any SQLDatabase, pause: () async -> Void
  ) async throws {
    let now = Timestamp.now
    var after = SessionID(.zero)
    while !Task.isCancelled {
      let start = after
      let slice = try await database.read { transaction in
        try await AccountStore.uselessSessions(
          endedBefore: now.adding(milliseconds: -endedKeptMilliseconds),
          unusedSince: now.adding(milliseconds: -unusedKeptMilliseconds), after: start,
          limit: sessionsPerSlice, in: transaction)
      }
      guard let last = slice.lookedUpTo else { return }
      after = last
      if !slice.ids.isEmpty {
        try await database.write { try await AccountStore.remove(slice.ids, in: $0) }
      }
      await pause()
    }
  }
}
