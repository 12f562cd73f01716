package import Access
package import Basics
internal import Crypto
package import Database
internal import Synchronization

/// Finds the caller of a credential: a session of this server, or a token of another system.
///
/// A verified token is cached while it is in use, so that its signature is checked once per node. The cache holds the
/// token's digest and its principal, but no rights. Whether it has expired and whether its session has ended is
/// checked every time.
package final class Credentials: Authenticator {
  private let database: any SQLDatabase
  private let names: NameCheck
  private let local: LocalTokens
  private let foreign: ForeignTokens?
  private let ended: RevokedSessions
  private let seen: SessionActivity
  private let memberships: any Memberships
  private let freshness: Freshness
  private let fingerprints = Fingerprints()
  private let remembered = Mutex(BoundedCache<Digest, Principal>(capacity: rememberedCount))

  private static let rememberedCount = 16_384
  /// How long a request waits until this node knows who may do what, in milliseconds.
  private static let patienceMilliseconds: Int64 = 5000
  private static let lookMilliseconds: UInt64 = 20

  package init(
    database: any SQLDatabase, local: LocalTokens, foreign: ForeignTokens?, ended: RevokedSessions,
    seen: SessionActivity, memberships: any Memberships, freshness: Freshness
  ) {
    self.database = database
    names = NameCheck { questions in
      try await database.read { try await AffiliationStore.readTaken(questions, in: $0) }
    }
    self.local = local
    self.foreign = foreign
    self.ended = ended
    self.seen = seen
    self.memberships = memberships
    self.freshness = freshness
  }

  // MARK: Authenticator

  package func authenticate(_ credential: Credential) async throws -> Caller {
    try await waitUntilFresh()
    let principal: Principal
    do {
      switch credential {
      case .bearer(let token):
        principal = try await remember("t", token) { try await self.read(token.reveal()) }
      case .cookie(let cookie):
        principal = try await remember("c", cookie) {
          try await self.readCookie(cookie.reveal())
        }
      }
      try requireValid(principal)
    } catch let refusal as TokenRefusal {
      throw AppError(.invalidToken, underlying: refusal)
    } catch let failure as JWT.Failure {
      throw AppError(.invalidToken, underlying: failure)
    }
    guard let session = principal.sessionID else {
      return Caller(principal: principal, affiliations: nil)
    }
    seen.touch(session)
    let affiliations: Affiliations
    if let known = memberships.current(principal.userID) {
      affiliations = known
    } else {
      affiliations = try await memberships.affiliations(of: principal.userID)
    }
    return Caller(principal: principal, affiliations: affiliations)
  }

  package func check(_ caller: Caller) throws(AppError) {
    do { try requireValid(caller.principal) } catch {
      throw AppError(.invalidToken, underlying: error)
    }
  }

  private func requireValid(_ principal: Principal) throws(TokenRefusal) {
    if let expiresAt = principal.expiresAt, expiresAt <= .now { throw .expired }
    if let session = principal.sessionID, ended.contains(session) { throw .sessionEnded }
  }

  package func hasEnded(_ session: SessionID) -> Bool { ended.contains(session) }

  package func noteUse(of caller: Caller) {
    if let session = caller.sessionID { seen.touch(session) }
  }

  /// Drops cached cookies of sessions that ended, so that they are checked with the database again.
  package func forget(_ sessions: Set<SessionID>) {
    remembered.withLock { remembered in
      remembered.removeAll { principal in principal.sessionID.map(sessions.contains) ?? false }
    }
  }

  /// Drops everything that was read from the database, because that was replaced or restored.
  package func forgetAll() {
    names.forget()
    remembered.withLock { $0 = BoundedCache(capacity: Self.rememberedCount) }
  }

  /// A node that was stopped, or cut off from its database, does not know which sessions have ended.
  private func waitUntilFresh() async throws {
    if freshness.isFresh { return }
    let end = UptimeClock.milliseconds + Self.patienceMilliseconds
    while !freshness.isFresh {
      guard UptimeClock.milliseconds < end, !Task.isCancelled else {
        throw AppError(.unavailable, "The server has lost its database for a moment; try again.")
      }
      try? await Task.sleep(nanoseconds: Self.lookMilliseconds * 1_000_000)
    }
  }

  // MARK: Verification

  /// Identifies a credential in 16 bytes, instead of a token's hundreds, and cannot be used to log in.
  private typealias Digest = UUID

  private func remember(
    _ kind: Unicode.Scalar, _ secret: Secret<String>, _ read: () async throws -> Principal
  ) async throws -> Principal {
    let key = fingerprints.fingerprint([UInt8(ascii: kind)] + secret.reveal().utf8)
    if let known = remembered.withLock({ $0.value(for: key) }) { return known }
    let principal = try await read()
    remembered.withLock { remembered in
      // Its session may have ended while it was read. Checked inside the lock: `forget` is called after the session
      // was added to the ended ones.
      if let session = principal.sessionID, ended.contains(session) { return }
      remembered.insert(principal, for: key)
    }
    return principal
  }

  private func read(_ token: String) async throws -> Principal {
    let parts = try JWT.parse(token)
    // Each kind of key verifies only its own algorithm, whatever the token says.
    switch parts.algorithm {
    case "EdDSA": return try local.principal(of: parts, now: .now)
    case "HS256":
      guard let foreign else { throw TokenRefusal.foreignTokensOff }
      let principal = try foreign.principal(of: parts, now: .now)
      try await refuseOurNames(principal)
      return principal
    default: throw TokenRefusal.notSigned
    }
  }

  /// Another system may not speak for accounts of this server or for its organizations and teams, nor use one of
  /// their ids for an entity.
  private func refuseOurNames(_ principal: Principal) async throws {
    guard case .foreignToken(let entities, _) = principal.origin else { return }
    if try await names.isAnyTaken([principal.userID.uuid] + entities) {
      throw TokenRefusal.namesOurs
    }
  }

  private func readCookie(_ cookie: String) async throws -> Principal {
    guard let session = local.readCookie(cookie) else { throw TokenRefusal.badCookie }
    let found = try await database.read { try await AccountStore.session(session, in: $0) }
    guard let found else { throw TokenRefusal.unknownSession }
    return Principal(userID: found.user, origin: .session(session), expiresAt: nil)
  }
}
