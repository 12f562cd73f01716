package import Basics

/// A role in an organization. OWNER is above ADMIN, which is above the others.
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

/// A role in a team, lowest first.
package enum TeamRole: String, Sendable, CaseIterable {
  case user, admin
  case superAdmin = "super_admin"

  package var isManager: Bool { self != .user }
}

/// An account's place in a team.
package struct TeamMembership: Sendable, Equatable {
  package let role: TeamRole
  /// The room that is the team's channel. Nil for a team that was made without one, which no feature does.
  package let channel: RoomID?

  package init(_ role: TeamRole, channel: RoomID?) {
    self.role = role
    self.channel = channel
  }
}

/// An account's memberships at one version: its organizations and teams, with its role in each.
///
/// Each change of a user's memberships raises that user's version. Immutable, and shared by reference by all sockets
/// and requests of the user.
package final class Affiliations: Sendable {
  package let version: Int64
  package let organizations: [OrganizationID: OrganizationRole]
  package let teams: [TeamID: TeamMembership]
  /// Whether the user administers the whole server.
  package let isPlatformAdmin: Bool
  /// The ids of all the user's organizations and teams, by which rules of rooms name them.
  package let entities: Set<UUID>

  package init(
    version: Int64, organizations: [OrganizationID: OrganizationRole] = [:],
    teams: [TeamID: TeamMembership] = [:], isPlatformAdmin: Bool = false
  ) {
    self.version = version
    self.organizations = organizations
    self.teams = teams
    self.isPlatformAdmin = isPlatformAdmin
    entities = Set(organizations.keys.map(\.uuid)).union(teams.keys.map(\.uuid))
  }

  /// Whether the user manages this organization or team and may answer invitations for it. Nil if the user is not a
  /// member of it.
  package func manages(_ entity: UUID) -> Bool? {
    organizations[OrganizationID(entity)]?.isManager ?? teams[TeamID(entity)]?.role.isManager
  }
}

/// The memberships of accounts, as other features read them. A port, implemented by `Accounts`.
///
/// Answers from memory are at most one second behind the database, on every node.
package protocol Memberships: Sendable {
  /// Returns the memberships from memory, or nil if the database has to be asked.
  func current(_ user: UserID) -> Affiliations?

  /// Returns the memberships from memory if their version is at least `version`, otherwise as the database has them
  /// now. An unknown account has no memberships. Throws `unavailable`.
  func affiliations(of user: UserID, atLeast version: Int64) async throws -> Affiliations

  /// Returns the memberships of many accounts, each as `affiliations(of:atLeast:)` does. Throws `unavailable`.
  func affiliations(atLeast versions: [UserID: Int64]) async throws -> [UserID: Affiliations]

  /// Reads the memberships from the database, even if they are in memory. Throws `unavailable`.
  func reload(_ user: UserID) async throws -> Affiliations
}

extension Memberships {
  package func affiliations(of user: UserID) async throws -> Affiliations {
    try await affiliations(of: user, atLeast: 0)
  }
}
