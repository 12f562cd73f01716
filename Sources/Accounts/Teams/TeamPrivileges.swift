package import Access
package import Basics

/// Something that may be done in a team.
package enum TeamPrivilege: String, Sendable, CaseIterable {
  /// See the team and its members.
  case see
  /// Send and hear in the channel, and privately to a member. Checked by the rule engine of rooms; here for the table.
  case speak
  case leave
  /// Add people, and remove members with the role `user`.
  case manageMembers = "manage_members"
  /// Change name, icon and tags.
  case edit
  /// Make and unmake admins, and remove admins.
  case manageAdmins = "manage_admins"
  /// Activate, deactivate, delete, and hand over.
  case own
}

/// What someone is to a team, for the table of privileges.
package enum TeamPosition: String, Sendable, CaseIterable {
  case stranger
  case user, admin
  case superAdmin = "super_admin"
  /// OWNER or ADMIN of the team's organization.
  case organizationManager = "organization_manager"
}

/// The answer to someone who wants to use a privilege, the best last.
package enum TeamVerdict: Int, Sendable, Comparable {
  /// For this person the team does not exist.
  case notFound
  /// The person sees the team, but is not in it.
  case notAMember
  case forbidden
  case handOverFirst
  case allowed

  package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

  /// The error code; nil if it is allowed.
  package var code: ErrorCode? {
    switch self {
    case .notFound: .teamNotFound
    case .notAMember: .notAMember
    case .forbidden: .forbidden
    case .handOverFirst: .handOverFirst
    case .allowed: nil
    }
  }
}

/// Who may do what in a team: one table (docs/teams.md).
package enum TeamPrivileges {
  package static let table: [TeamPrivilege: [TeamPosition: TeamVerdict]] = [
    .see: row(.notFound, .allowed, .allowed, .allowed, .allowed),
    .speak: row(.notFound, .allowed, .allowed, .allowed, .notFound),
    .leave: row(.notFound, .allowed, .allowed, .handOverFirst, .notAMember),
    .manageMembers: row(.notFound, .forbidden, .allowed, .allowed, .allowed),
    .edit: row(.notFound, .forbidden, .allowed, .allowed, .allowed),
    .manageAdmins: row(.notFound, .forbidden, .forbidden, .allowed, .allowed),
    .own: row(.notFound, .forbidden, .forbidden, .allowed, .allowed),
  ]

  private static func row(
    _ stranger: TeamVerdict, _ user: TeamVerdict, _ admin: TeamVerdict, _ superAdmin: TeamVerdict,
    _ organizationManager: TeamVerdict
  ) -> [TeamPosition: TeamVerdict] {
    [
      .stranger: stranger, .user: user, .admin: admin, .superAdmin: superAdmin,
      .organizationManager: organizationManager,
    ]
  }

  /// The verdict for someone in these positions. Whoever manages the organization and is in the team has two; the
  /// better verdict counts. Only leaving depends on the place in the team alone.
  package static func verdict(
    _ privilege: TeamPrivilege, _ positions: Set<TeamPosition>
  ) -> TeamVerdict {
    positions.map { table[privilege]?[$0] ?? .notFound }.max() ?? .notFound
  }
}

/// Someone in relation to a team.
package struct TeamStanding: Sendable {
  /// Nil for somebody who is not in the team.
  package let role: TeamRole?
  /// Whether the person is OWNER or ADMIN of the team's organization.
  package let managesOrganization: Bool

  package init(role: TeamRole?, managesOrganization: Bool) {
    self.role = role
    self.managesOrganization = managesOrganization
  }

  package var positions: Set<TeamPosition> {
    var positions: Set<TeamPosition> = managesOrganization ? [.organizationManager] : []
    switch role {
    case .user: positions.insert(.user)
    case .admin: positions.insert(.admin)
    case .superAdmin: positions.insert(.superAdmin)
    case nil: if !managesOrganization { positions.insert(.stranger) }
    }
    return positions
  }

  package func verdict(_ privilege: TeamPrivilege) -> TeamVerdict {
    TeamPrivileges.verdict(privilege, positions)
  }

  /// Throws the code of the verdict unless the privilege is allowed.
  package func require(_ privilege: TeamPrivilege) throws(AppError) {
    if let code = verdict(privilege).code { throw AppError(code) }
  }
}
