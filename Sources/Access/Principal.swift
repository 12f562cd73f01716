package import Basics

/// The content of a valid credential: the user that it names, and when it expires.
///
/// For accounts of this server it does not contain what the user may do, which is looked up at each action. Shared by
/// reference by everything that belongs to a socket.
package final class Principal: Sendable {
  package enum Origin: Sendable, Equatable {
    /// An account of this server. The credential names its session.
    case session(SessionID)
    /// A token of another system. Its claims are valid as long as the token: the entities that the caller belongs to,
    /// and `levelOnEntity`.
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

  /// The session of an account of this server; nil for tokens of another system.
  package var sessionID: SessionID? {
    if case .session(let id) = origin { id } else { nil }
  }

  /// The same principal without an expiry: valid as long as its session.
  package var withoutExpiry: Principal { Principal(userID: userID, origin: origin, expiresAt: nil) }
}
