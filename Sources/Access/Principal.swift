package import Basics

/// What a valid credential says: who it is, and until when. It does not say what they may do; that is looked up when
/// they act. Shared by reference by everything that belongs to a socket.
package final class Principal: Sendable {
  package enum Origin: Sendable, Equatable {
    /// An account of this server, by the session that the credential names.
    case session(SessionID)
    /// A token of another system. Its claims hold as long as the token is valid: the entities that the caller belongs
    /// to, and `levelOnEntity`.
    case foreignToken(entities: [UUID], level: Int64)
  }

  package let userID: UserID
  package let origin: Origin
  /// When the credential expires; nil if it lives as long as its session.
  package let expiresAt: Timestamp?

  package init(userID: UserID, origin: Origin, expiresAt: Timestamp?) {
    self.userID = userID
    self.origin = origin
    self.expiresAt = expiresAt
  }

  /// The session of an account of this server, or nil.
  package var sessionID: SessionID? {
    if case .session(let id) = origin { id } else { nil }
  }

  /// The same principal, without an expiry of its own.
  package var withoutExpiry: Principal { Principal(userID: userID, origin: origin, expiresAt: nil) }
}
