package import Basics

/// The person that a request or a socket acts for: the content of the credential, and one version of the account's
/// memberships.
///
/// Immutable and shared by reference, because every subscription of a socket holds it.
package final class Caller: Sendable {
  package let principal: Principal
  /// Nil for tokens of another system, which carry their own claims.
  package let affiliations: Affiliations?

  package init(principal: Principal, affiliations: Affiliations?) {
    self.principal = principal
    self.affiliations = affiliations
  }

  package var userID: UserID { principal.userID }
  /// The session of an account of this server; nil for tokens of another system.
  package var sessionID: SessionID? { principal.sessionID }
  /// When the credential expires; nil if it lives as long as its session.
  package var expiresAt: Timestamp? { principal.expiresAt }
  /// Always false for tokens of another system.
  package var isPlatformAdmin: Bool { affiliations?.isPlatformAdmin ?? false }

  /// `levelOnEntity` of the token; 100 for accounts of this server.
  package var level: Int64 {
    if case .foreignToken(_, let level) = principal.origin { level } else { Self.levelOfLocalUsers }
  }

  /// The groups that this caller belongs to and that rules may name: organizations and teams of this server, or the
  /// entities of another system.
  package var entities: [UUID] {
    switch principal.origin {
    case .session: affiliations.map { Array($0.entities) } ?? []
    case .foreignToken(let entities, _): entities
    }
  }

  /// Whether the caller belongs to this organization, team or entity.
  package func isOf(_ entity: UUID) -> Bool {
    switch principal.origin {
    case .session: affiliations?.entities.contains(entity) ?? false
    case .foreignToken(let entities, _): entities.contains(entity)
    }
  }

  /// The caller's role in a team of this server; nil if the caller is not in it.
  package func role(in team: TeamID) -> TeamRole? {
    principal.sessionID == nil ? nil : affiliations?.teams[team]?.role
  }

  /// The channels of the teams of this server that the caller is in.
  package var channels: [RoomID] {
    principal.sessionID == nil ? [] : affiliations?.teams.values.compactMap(\.channel) ?? []
  }

  /// Every subject that a rule may name and that includes this caller.
  package var subjects: [UUID] { [userID.uuid] + entities }

  /// Whether rules give the same rights to `other` as to this caller. The users are not compared.
  package func hasSameClaims(as other: Caller) -> Bool {
    level == other.level && isPlatformAdmin == other.isPlatformAdmin
      && Set(entities) == Set(other.entities)
  }

  /// Returns the same person with these memberships. Tokens of another system have none and are returned unchanged.
  package func with(_ affiliations: Affiliations) -> Caller {
    principal.sessionID == nil ? self : Caller(principal: principal, affiliations: affiliations)
  }

  /// The `levelOnEntity` of accounts of this server.
  package static let levelOfLocalUsers: Int64 = 100
}
