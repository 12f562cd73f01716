package import Basics

/// What someone is in an organization, highest first: OWNER above ADMIN above the rest.
package enum OrganizationRole: String, Sendable, CaseIterable {
  case owner = "OWNER"
  case admin = "ADMIN"
  case teamAdmin = "TEAM_ADMIN"
  case teamMember = "TEAM_MEMBER"
  case serviceManager = "SERVICE_MANAGER"
  case statusReporter = "STATUS_REPORTER"

  /// Whether the role manages the organization and its teams.
  package var isManager: Bool { self == .owner || self == .admin }
}

/// What someone is in a team, lowest first.
package enum TeamRole: String, Sendable, CaseIterable {
  case user, admin
  case superAdmin = "super_admin"

  package var isManager: Bool { self != .user }
}

/// What an account belongs to, at one version: its organizations and teams, and as what.
///
/// A version is one of this user's: every change of a membership raises it. Immutable, shared by
/// reference by every socket and request of the user.
package final class Affiliations: Sendable {
  package let version: Int64
  package let organizations: [OrganizationID: OrganizationRole]
  package let teams: [TeamID: TeamRole]
  /// Administers the whole server.
  package let isPlatformAdmin: Bool
  /// The ids of all organizations and teams, as rules of rooms name them.
  package let entities: Set<UUID>

  package init(
    version: Int64, organizations: [OrganizationID: OrganizationRole] = [:],
    teams: [TeamID: TeamRole] = [:], isPlatformAdmin: Bool = false
  ) {
    self.version = version
    self.organizations = organizations
    self.teams = teams
    self.isPlatformAdmin = isPlatformAdmin
    entities = Set(organizations.keys.map(\.uuid)).union(teams.keys.map(\.uuid))
  }

  /// Whether the role in this organization or team of theirs lets them answer for it; nil where they
  /// are in none of this id.
  package func manages(_ entity: UUID) -> Bool? {
    organizations[OrganizationID(entity)]?.isManager ?? teams[TeamID(entity)]?.isManager
  }
}

/// Tells what accounts belong to. Port; the accounts keep it.
///
/// Answers come from memory: what is there is at most a second behind the database, on every node.
package protocol Memberships: Sendable {
  /// What is in memory; nil where the database has to be asked.
  func current(_ user: UserID) -> Affiliations?

  /// From memory, else from the database; at least at `version`, where the database has that. An
  /// unknown account belongs to nothing. Throws `unavailable`.
  func affiliations(of user: UserID, atLeast version: Int64) async throws -> Affiliations

  /// As above, of many accounts at once.
  func affiliations(atLeast versions: [UserID: Int64]) async throws -> [UserID: Affiliations]

  /// As the database has it now. Throws `unavailable`.
  func reload(_ user: UserID) async throws -> Affiliations
}

extension Memberships {
  package func affiliations(of user: UserID) async throws -> Affiliations {
    try await affiliations(of: user, atLeast: 0)
  }
}
