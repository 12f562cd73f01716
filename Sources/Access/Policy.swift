/// Who may use a route or a frame. Every one names its policy where it is declared: the router's
/// and the dialects' tables take no entry without.
///
/// The requirement is checked before the handler runs. What depends on a thing (a room, a team) is
/// checked by the thing's own rules, on the state that the operation itself reads; the scope says here
/// what that will be.
///
/// `Who` decides what a handler gets: with `Policy<Anyone>` a request without a caller, so that it cannot
/// ask for one; with `Policy<SignedIn>` a request with its caller.
package struct Policy<Who: Audience>: Sendable {
  /// Without the type, for tables that hold policies of both kinds.
  package let untyped: UntypedPolicy

  fileprivate init(_ requirement: PolicyRequirement, _ scope: PolicyScope = .none) {
    untyped = UntypedPolicy(requirement: requirement, scope: scope)
  }
}

/// A policy as tables keep it.
package struct UntypedPolicy: Sendable, Equatable {
  package let requirement: PolicyRequirement
  package let scope: PolicyScope

  /// As `martlet routes` prints it.
  package var description: String {
    scope.description.map { "\(requirement.rawValue), \($0)" } ?? requirement.rawValue
  }
}

/// Whom a policy lets in, as a type.
package protocol Audience: Sendable {}
/// Whoever comes; a credential is not even read.
package enum Anyone: Audience {}
/// Whoever showed a valid credential.
package enum SignedIn: Audience {}

extension Policy where Who == Anyone {
  package static var anyone: Policy { Policy(.anyone) }
}

extension Policy where Who == SignedIn {
  /// Any valid credential.
  package static var caller: Policy { Policy(.caller) }
  /// An account of this server; tokens of another system are 403.
  package static var localUser: Policy { Policy(.localUser) }
  /// Any caller who has this right in the room.
  package static func room(_ right: RoomRight) -> Policy { Policy(.caller, .room(right)) }
  /// An account that has this right in the team.
  package static func team(_ right: TeamRight) -> Policy { Policy(.localUser, .team(right)) }
  /// An account that has this right in the organization.
  package static func organization(_ right: OrganizationRight) -> Policy {
    Policy(.localUser, .organization(right))
  }
  /// A platform admin.
  package static var platform: Policy { Policy(.localUser, .platform) }
}

package enum PolicyRequirement: String, Sendable {
  case anyone, caller
  case localUser
}

/// In what a right is needed.
package enum PolicyScope: Sendable, Equatable {
  case none
  case room(RoomRight)
  case team(TeamRight)
  case organization(OrganizationRight)
  /// The whole server: its administrators. Checked before the handler runs.
  case platform

  package var description: String? {
    switch self {
    case .none: nil
    case .room(let right): "room: \(right.rawValue)"
    case .team(let right): "team: \(right.rawValue)"
    case .organization(let right): "organization: \(right.rawValue)"
    case .platform: "platform admin"
    }
  }
}

/// What an operation needs in its room.
package enum RoomRight: String, Sendable {
  case read = "r"
  case write = "w"
  /// `a`, or a level of at least the room's `level_admin`.
  case manage = "a or level_admin"
  /// As `manage`, and less for the rule that is the caller's own.
  case manageOrOwnRule = "a or level_admin, or it is one's own rule"
  /// Any accepted rule that matches.
  case member = "an accepted rule"
  /// A rule of one's own, or of one's entity, that waits for its answer.
  case invited = "a waiting rule"
  /// Creating one: `levelOnEntity` of at least the setting.
  case create = "level to create"
}

/// What an operation needs in its team.
package enum TeamRight: String, Sendable {
  case member
  /// Team admins, and who manages the team's organization.
  case manage = "admin"
  /// The team's super_admin, and who manages the team's organization.
  case own = "super_admin"
}

/// What an operation needs in its organization.
package enum OrganizationRight: String, Sendable {
  case member
  /// OWNER or ADMIN.
  case manage = "OWNER or ADMIN"
  case own = "OWNER"
}
