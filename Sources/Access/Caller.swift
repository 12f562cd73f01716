package import Basics

/// Who asks: a person, the entities they act for, and how far the credential carries.
///
/// Made from a credential for one request or one socket, never stored as membership.
package struct Caller: Sendable, Equatable {
  package enum Origin: Sendable, Equatable {
    /// An account of this server, by the session that the credential names.
    case session(SessionID)
    /// A token of another system (seed 004), whose claims are the truth.
    case foreignToken
  }

  package let userID: UserID
  /// Organizations or entities whose people this caller is of; rules may name them.
  package let entities: [UUID]
  /// `levelOnEntity` of seed 004; people who signed up here count as 100.
  package let level: Int64
  package let origin: Origin
  /// Granted by the command line only; never true for a foreign token.
  package let isPlatformAdmin: Bool
  /// When the credential ends; nil where it lives as long as its session.
  package var expiresAt: Timestamp?

  package init(
    userID: UserID, entities: [UUID], level: Int64, origin: Origin, isPlatformAdmin: Bool = false,
    expiresAt: Timestamp?
  ) {
    self.userID = userID
    self.entities = entities
    self.level = level
    self.origin = origin
    self.isPlatformAdmin = isPlatformAdmin
    self.expiresAt = expiresAt
  }

  /// The session of an account of this server, or nil.
  package var sessionID: SessionID? {
    if case .session(let id) = origin { id } else { nil }
  }

  /// Every subject that a rule may name to mean this caller.
  package var subjects: [UUID] { [userID.uuid] + entities }

  /// `levelOnEntity` of people who signed up here (CONTRACT section 4).
  package static let levelOfLocalUsers: Int64 = 100
}
