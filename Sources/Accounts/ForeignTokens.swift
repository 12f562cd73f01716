internal import Access
package import Basics
internal import Crypto

/// Reads tokens of another system (RFC 7519): HS256 with a shared secret. Their claims hold as long as the token is
/// valid.
package struct ForeignTokens: Sendable {
  private let key: Secret<HMACKey>
  private let audience: String
  private let issuer: String

  private static let leewaySeconds: Int64 = 5

  /// What both systems have agreed on.
  package struct Configuration: Sendable {
    let secret: Secret<String>
    /// What the claim `aud` must be or contain.
    let audience: String
    /// What the claim `iss` must be.
    let issuer: String

    package init(secret: Secret<String>, audience: String, issuer: String) {
      self.secret = secret
      self.audience = audience
      self.issuer = issuer
    }
  }

  package init(_ configuration: Configuration) {
    key = Secret(HMACKey(Array(configuration.secret.reveal().utf8)))
    audience = configuration.audience
    issuer = configuration.issuer
  }

  /// The principal that such a token names. Throws `JWT.Failure` or `TokenRefusal`.
  func principal(of parts: JWT.Parts, now: Timestamp) throws -> Principal {
    try JWT.verify(parts, hmacKey: key.reveal())
    let claims = parts.claims
    let seconds = now.milliseconds / 1000
    guard claims["iss"]?.string == issuer else { throw TokenRefusal.wrongIssuer }
    guard isForUs(claims["aud"]) else { throw TokenRefusal.wrongAudience }
    guard let expires = Self.date(claims["exp"]) else { throw TokenRefusal.noExpiry }
    guard expires + Self.leewaySeconds > seconds else { throw TokenRefusal.expired }
    guard let user = claims["userUUID"]?.string.flatMap({ UserID($0) }) else {
      throw TokenRefusal.noUser
    }
    // The nil UUID stands for the server itself.
    guard user.uuid != .zero else { throw TokenRefusal.namesOurs }
    if let notBefore = claims["nbf"] {
      guard let notBefore = Self.date(notBefore), notBefore - Self.leewaySeconds <= seconds else {
        throw TokenRefusal.notYetValid
      }
    }
    var entities: [UUID] = []
    switch claims["entityUUID"] {
    case nil, .null: break
    case .string(let text):
      guard let entity = UUID(text) else { throw TokenRefusal.badEntity }
      entities = [entity]
    default: throw TokenRefusal.badEntity
    }
    var level: Int64 = 0
    switch claims["levelOnEntity"] {
    case nil, .null: break
    case let value?:
      guard let number = value.wholeNumberOrNumericString, number >= 0 else {
        throw TokenRefusal.badLevel
      }
      level = number
    }
    // At most 2^53 seconds, so this cannot overflow.
    return Principal(
      userID: user, origin: .foreignToken(entities: entities, level: level),
      expiresAt: Timestamp(milliseconds: (expires + Self.leewaySeconds) * 1000))
  }

  private func isForUs(_ claim: JSON?) -> Bool {
    switch claim {
    case .string(let text): text == audience
    case .array(let values): values.contains(.string(audience))
    default: false
    }
  }

  /// A NumericDate (RFC 7519, 2) of up to 2^53 seconds, possibly with a fraction.
  private static func date(_ claim: JSON?) -> Int64? {
    switch claim {
    case .integer(let seconds): seconds.magnitude <= 1 << 53 ? seconds : nil
    case .double(let seconds, _): seconds.magnitude <= 9_007_199_254_740_992 ? Int64(seconds) : nil
    default: nil
    }
  }
}
