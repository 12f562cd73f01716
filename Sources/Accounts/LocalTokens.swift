internal import Access
package import Basics
package import Crypto

/// Makes and reads the credentials of sessions of this server.
///
/// The access token is a JWT (EdDSA) with the user, the session and an expiry, so that checking it needs no database;
/// the user's rights are looked up. Refresh tokens and cookies name the session and carry a code that only this
/// server can make, so nothing of them is stored.
package struct LocalTokens: Sendable {
  package static let issuer = "martlet"
  /// The lifetime of an access token.
  package static let lifetimeMilliseconds: Int64 = 15 * 60_000

  private let keys: [SigningKey]
  private let signingKey: SigningKey
  private let refreshKey: [UInt8]
  private let cookieKey: [UInt8]

  /// `keys` are ordered with the newest first. The first one signs, all of them verify.
  package init?(keys: [SigningKey]) {
    guard let newest = keys.first, let oldest = keys.last else { return nil }
    self.keys = keys
    signingKey = newest
    // Derived from the oldest key, so that a new signing key does not end sessions.
    refreshKey = Hash.hmacSHA256(Array("refresh".utf8), key: oldest.seed)
    cookieKey = Hash.hmacSHA256(Array("cookie".utf8), key: oldest.seed)
  }

  // MARK: Access tokens

  package func makeAccessToken(
    user: UserID, session: SessionID, now: Timestamp
  ) -> (token: Secret<String>, expiresAt: Timestamp) {
    let issuedAt = now.milliseconds / 1000
    let expiresAt = issuedAt + Self.lifetimeMilliseconds / 1000
    let token = JWT.make(key: signingKey) {
      $0.member("iss", Self.issuer)
      $0.member("sub", user)
      $0.member("sid", session)
      $0.member("iat", issuedAt)
      $0.member("exp", expiresAt)
    }
    return (Secret(token), Timestamp(milliseconds: expiresAt * 1000))
  }

  /// The principal that one of our tokens names. Throws `JWT.Failure` or `TokenRefusal`.
  ///
  /// Tokens from a node whose clock is ahead live longer here. How much longer is bounded, because ended sessions are
  /// remembered only for a limited time.
  func principal(of parts: JWT.Parts, now: Timestamp) throws -> Principal {
    try JWT.verify(parts, keys: keys)
    guard parts.claims["iss"]?.string == Self.issuer,
      let user = parts.claims["sub"]?.string.flatMap({ UserID($0) }),
      let session = parts.claims["sid"]?.string.flatMap({ SessionID($0) }),
      let expires = parts.claims["exp"]?.wholeNumber
    else { throw TokenRefusal.missingClaim }
    // At most 2^53 seconds, so this cannot overflow.
    let expiresAt = Timestamp(milliseconds: expires * 1000)
    guard expiresAt > now else { throw TokenRefusal.expired }
    let latest = now.adding(
      milliseconds: Self.lifetimeMilliseconds + RevokedSessions.clockDifferenceMilliseconds)
    guard expiresAt <= latest else { throw TokenRefusal.livesTooLong }
    return Principal(userID: user, origin: .session(session), expiresAt: expiresAt)
  }

  // MARK: Refresh tokens and cookies

  /// Valid once: for the refresh with this number.
  func makeRefreshToken(_ session: SessionID, count: Int64) -> Secret<String> {
    let body = session.uuid.bytes + UUID(high: 0, low: UInt64(bitPattern: count)).bytes.suffix(8)
    return Secret(Base64URL.encode(body + Hash.hmacSHA256(body, key: refreshKey)))
  }

  /// Nil for anything that this server did not make.
  func readRefreshToken(_ token: String) -> (session: SessionID, count: Int64)? {
    guard let bytes = Base64URL.decode(token), bytes.count == 56 else { return nil }
    let body = Array(bytes[..<24])
    guard SecretBytes.areEqual(Array(bytes[24...]), Hash.hmacSHA256(body, key: refreshKey)),
      let session = UUID(bytes: Array(body[..<16]))
    else { return nil }
    let count = body[16...].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    return (SessionID(session), Int64(bitPattern: count))
  }

  func makeCookie(_ session: SessionID) -> Secret<String> {
    let body = session.uuid.bytes
    return Secret(Base64URL.encode(body + Hash.hmacSHA256(body, key: cookieKey)))
  }

  func readCookie(_ cookie: String) -> SessionID? {
    guard let bytes = Base64URL.decode(cookie), bytes.count == 48 else { return nil }
    let body = Array(bytes[..<16])
    guard SecretBytes.areEqual(Array(bytes[16...]), Hash.hmacSHA256(body, key: cookieKey)),
      let session = UUID(bytes: body)
    else { return nil }
    return SessionID(session)
  }
}
