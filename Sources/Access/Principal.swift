package import Basics

/// What a valid credential says: who it is, and for how long. Nothing of what they may do: that is
/// looked up when they act. Shared by reference by everything that a socket does.
package final class Principal: Sendable {
  package enum Origin: Sendable, Equatable {
    /// An account of this server, by the session that the credential names.
    case session(SessionID)
    /// A token of another system, whose claims are the truth as long as it is valid: the entities
    /// whose people this caller is of, and `levelOnEntity`.
    case foreignToken(entities: [UUID], level: Int64)
  }

  package let userID: UserID
  package let origin: Origin
  /// When the credential ends; nil where it lives as long as its session.
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

  /// The same, without an end of its own.
  package var withoutExpiry: Principal { Principal(userID: userID, origin: origin, expiresAt: nil) }
}
