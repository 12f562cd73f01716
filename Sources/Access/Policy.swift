/// The access policy of a route or a frame: who may use it. The tables of the router and of the dialects accept no
/// entry without a policy.
///
/// The requirement is checked before the handler runs, and so is the scope `platform`. The other scopes are only
/// documentation: rights in a room, a team or an organization are checked by the operation itself, on the state that it
/// reads.
///
/// `Who` decides what a handler receives: with `Policy<Anyone>` a request without a caller, so that the handler
/// cannot ask for one; with `Policy<SignedIn>` a request with its caller.
package struct Policy<Who: Audience>: Sendable {
  /// The policy without its type, for tables that hold both kinds.
  package let untyped: UntypedPolicy

  fileprivate init(_ requirement: PolicyRequirement, _ scope: PolicyScope = .none) {
    untyped = UntypedPolicy(requirement: requirement, scope: scope)
  }
}

/// A policy as tables store it.
package struct UntypedPolicy: Sendable, Equatable {
  package let requirement: PolicyRequirement
  package let scope: PolicyScope

  /// The policy as `martlet routes` prints it.
  package var description: String {
    scope.description.map { "\(requirement.rawValue), \($0)" } ?? requirement.rawValue
  }
}

/// The callers that a policy admits, as a type.
package protocol Audience: Sendable {}
/// Everyone. A credential in the request is not read.
package enum Anyone: Audience {}
/// Everyone with a valid credential.
package enum SignedIn: Audience {}

extension Policy where Who == Anyone {
  package static var anyone: Policy { Policy(.anyone) }
}

extension Policy where Who == SignedIn {
  /// Any valid credential.
  package static var caller: Policy { Policy(.caller) }
  /// An account of this server. Tokens of another system get 403.
  package static var localUser: Policy { Policy(.localUser) }
  /// Any caller with this right in the room.
  package static func room(_ right: RoomRight) -> Policy { Policy(.caller, .room(right)) }
  /// An account with this right in the team.
  package static func team(_ right: TeamRight) -> Policy { Policy(.localUser, .team(right)) }
  /// An account with this right in the organization.
  package static func organization(_ right: OrganizationRight) -> Policy {
    Policy(.localUser, .organization(right))
  }
  /// A platform admin.
  package static var platform: Policy { Policy(.localUser, .platform) }
}

/// The kind of credential that a route or frame needs.
package enum PolicyRequirement: String, Sendable {
  case anyone, caller
  case localUser
}

/// The room, team, organization or server in which the caller needs a right.
package enum PolicyScope: Sendable, Equatable {
  case none
  case room(RoomRight)
  case team(TeamRight)
  case organization(OrganizationRight)
  /// The whole server, for its administrators. Checked before the handler runs.
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

/// The right that an operation needs in its room.
package enum RoomRight: String, Sendable {
  case read = "r"
  case write = "w"
  /// The letter `a`, or a level of at least the room's `level_admin`.
  case manage = "a or level_admin"
  /// The same as `manage`, except for the caller's own rule, which needs no right.
  case manageOrOwnRule = "a or level_admin, or it is one's own rule"
  /// The same as `manage`, except for the caller's own name among the people.
  case manageOrSelf = "a or level_admin, or it is oneself"
  /// The same as `manage`, except for the caller's own message.
  case manageOrOwnMessage = "a or level_admin, or it is one's own message"
  /// `read`, and `manageOrOwnMessage`.
  case readAndManageOrOwnMessage = "r, and a or level_admin or it is one's own message"
  /// `write`, and the message must be the caller's own.
  case writeOwnMessage = "w, and it is one's own message"
  /// Any accepted rule that matches the caller.
  case member = "an accepted rule"
  /// A rule for the caller, or for one of the caller's entities, that is waiting to be accepted.
  case invited = "a waiting rule"
  /// The right to create a room: a `levelOnEntity` of at least the configured level.
  case create = "level to create"
}

/// The right that an operation needs in its team.
package enum TeamRight: String, Sendable {
  case member
  /// Team admins, and managers of the team's organization.
  case manage = "admin"
  /// The same as `manage`, except for the caller's own membership.
  case manageOrSelf = "admin, or it is oneself"
  /// The team's super_admin, and managers of the team's organization.
  case own = "super_admin"
}

/// The right that an operation needs in its organization.
package enum OrganizationRight: String, Sendable {
  case member
  /// OWNER or ADMIN.
  case manage = "OWNER or ADMIN"
  case own = "OWNER"
}
