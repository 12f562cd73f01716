package import Basics

/// Who asks: what the credential says, and what the account belongs to at this moment.
///
/// Immutable and shared by reference: each subscription of a socket holds it.
package final class Caller: Sendable {
  package let principal: Principal
  /// Nil for tokens of another system, which say themselves what they belong to.
  package let affiliations: Affiliations?

  package init(principal: Principal, affiliations: Affiliations?) {
    self.principal = principal
    self.affiliations = affiliations
  }

  package var userID: UserID { principal.userID }
  /// The session of an account of this server, or nil.
  package var sessionID: SessionID? { principal.sessionID }
  /// When the credential ends; nil where it lives as long as its session.
  package var expiresAt: Timestamp? { principal.expiresAt }
  /// Never true for a foreign token.
  package var isPlatformAdmin: Bool { affiliations?.isPlatformAdmin ?? false }

  /// `levelOnEntity`; people who signed up here count as 100.
  package var level: Int64 {
    if case .foreignToken(_, let level) = principal.origin { level } else { Self.levelOfLocalUsers }
  }

  /// The entities, organizations or teams whose people this caller is of; rules may name them.
  package var entities: [UUID] {
    switch principal.origin {
    case .session: affiliations.map { Array($0.entities) } ?? []
    case .foreignToken(let entities, _): entities
    }
  }

  /// Whether the caller is of this entity.
  package func isOf(_ entity: UUID) -> Bool {
    switch principal.origin {
    case .session: affiliations?.entities.contains(entity) ?? false
    case .foreignToken(let entities, _): entities.contains(entity)
    }
  }

  /// Every subject that a rule may name to mean this caller.
  package var subjects: [UUID] { [userID.uuid] + entities }

  /// Whether rules may give another answer for `other` than for this caller.
  package func hasSameClaims(as other: Caller) -> Bool {
    level == other.level && isPlatformAdmin == other.isPlatformAdmin
      && Set(entities) == Set(other.entities)
  }

  /// The same person with what they belong to now.
  package func with(_ affiliations: Affiliations) -> Caller {
    principal.sessionID == nil ? self : Caller(principal: principal, affiliations: affiliations)
  }

  /// `levelOnEntity` of people who signed up here.
  package static let levelOfLocalUsers: Int64 = 100
}
