package import Access
package import Basics
internal import Crypto
package import Database
internal import Synchronization

/// Tells who a credential belongs to: sessions of this server and tokens of another system.
///
/// A token that was verified is remembered for as long as it is good, so that its signature is
/// checked once per node; whether its session has ended is asked every time.
package final class Credentials: Authenticator {
  private let database: any SQLDatabase
  private let local: LocalTokens
  private let foreign: ForeignTokens?
  private let ended: EndedSessions
  private let seen: SessionActivity
  private let remembered = Mutex<[String: Caller]>([:])

  private static let maximumRemembered = 4096

  package init(
    database: any SQLDatabase, local: LocalTokens, foreign: ForeignTokens?, ended: EndedSessions,
    seen: SessionActivity
  ) {
    self.database = database
    self.local = local
    self.foreign = foreign
    self.ended = ended
    self.seen = seen
  }

  package func authenticate(_ credential: Credential) async throws -> Caller {
    let caller: Caller
    switch credential {
    case .bearer(let token):
      caller = try await remember("t" + token.reveal()) { try await self.read(token.reveal()) }
    case .cookie(let cookie):
      caller = try await remember("c" + cookie.reveal()) {
        try await self.readCookie(cookie.reveal())
      }
    }
    try check(caller)
    noteUse(of: caller)
    return caller
  }

  package func check(_ caller: Caller) throws(AppError) {
    if let expiresAt = caller.expiresAt, expiresAt <= .now { throw AppError(.invalidToken) }
    if let session = caller.sessionID, ended.contains(session) { throw AppError(.invalidToken) }
  }

  package func noteUse(of caller: Caller) {
    if let session = caller.sessionID { seen.touch(session) }
  }

  /// Forgets what was remembered of sessions that ended: their cookies ask the database again.
  package func forget(_ sessions: Set<SessionID>) {
    remembered.withLock { remembered in
      remembered = remembered.filter { entry in
        entry.value.sessionID.map { !sessions.contains($0) } ?? true
      }
    }
  }

  private func remember(_ key: String, _ read: () async throws -> Caller) async throws -> Caller {
    if let caller = remembered.withLock({ $0[key] }) { return caller }
    let caller = try await read()
    remembered.withLock { remembered in
      // Its session may have ended while it was read. Looked up inside the lock: `forget` comes after
      // the session is among those that ended.
      if let session = caller.sessionID, ended.contains(session) { return }
      if remembered.count >= Self.maximumRemembered { remembered.removeAll(keepingCapacity: true) }
      remembered[key] = caller
    }
    return caller
  }

  private func read(_ token: String) async throws -> Caller {
    do {
      let parts = try JWT.parse(token)
      // Each kind of key verifies its own algorithm only, whatever the token says.
      if parts.algorithm == "EdDSA", let caller = try local.caller(of: parts, now: .now) {
        return caller
      }
      if parts.algorithm == "HS256", let foreign,
        let caller = try foreign.caller(of: parts, now: .now)
      {
        try await refuseLocalUser(caller.userID)
        return caller
      }
    } catch let failure as JWT.Failure {
      throw AppError(.invalidToken, underlying: failure)
    }
    throw AppError(.invalidToken)
  }

  /// Another system may not speak for people who signed up here.
  private func refuseLocalUser(_ id: UserID) async throws {
    let user = try await database.read { try await AccountStore.user(id, in: $0) }
    if user != nil { throw AppError(.invalidToken) }
  }

  private func readCookie(_ cookie: String) async throws -> Caller {
    guard let session = local.readCookie(cookie) else { throw AppError(.invalidToken) }
    let found = try await database.read {
      transaction -> (user: User, entities: [UUID])? in
      guard let row = try await AccountStore.session(session, in: transaction),
        let user = try await AccountStore.user(row.user, in: transaction)
      else { return nil }
      return (user, try await AccountStore.organizations(of: row.user, in: transaction))
    }
    guard let found else { throw AppError(.invalidToken) }
    return Caller(
      userID: found.user.id, entities: found.entities, level: Caller.levelOfLocalUsers,
      origin: .session(session), isPlatformAdmin: found.user.isPlatformAdmin, expiresAt: nil)
  }
}

/// Notes when sessions were last used, and writes it down now and then: at most once a minute each.
package final class SessionActivity: Sendable {
  private struct State {
    var notedAt: [SessionID: Int64] = [:]
    var unwritten: [SessionID: Timestamp] = [:]
  }
  private let state = Mutex(State())

  static let everyMilliseconds: Int64 = 60_000
  private static let capacity = 100_000

  package init() {}

  func touch(_ id: SessionID) {
    let now = Monotonic.milliseconds
    state.withLock { state in
      if let noted = state.notedAt[id], now - noted < Self.everyMilliseconds { return }
      if state.notedAt.count >= Self.capacity { state.notedAt.removeAll() }
      state.notedAt[id] = now
      state.unwritten[id] = .now
    }
  }

  /// Writes what was noted since the last call.
  package func write(to database: any SQLDatabase) async throws {
    let noted = state.withLock { state in
      defer { state.unwritten = [:] }
      return state.unwritten
    }
    guard !noted.isEmpty else { return }
    try await database.write { transaction in
      for (id, time) in noted { try await AccountStore.touch(id, at: time, in: transaction) }
    }
  }
}
