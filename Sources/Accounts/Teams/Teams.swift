package import Access
package import Basics
internal import Crypto
package import Database
internal import Web

/// The operations on teams.
///
/// Every operation checks the caller's privilege (`TeamPrivileges`) on the state that it reads in its own transaction.
/// Strangers learn nothing: a team that does not exist and a team of others give the same 404.
package final class Teams: Sendable {
  private let database: any SQLDatabase
  private let memberships: MembershipDirectory
  private let rooms: any TeamRooms
  private let circle: Circle
  private let maximumTeams: Int

  /// `maximumTeams` limits the teams that one person may have made.
  package init(
    database: any SQLDatabase, memberships: MembershipDirectory, rooms: any TeamRooms,
    circle: Circle, maximumTeams: Int
  ) {
    self.database = database
    self.memberships = memberships
    self.rooms = rooms
    self.circle = circle
    self.maximumTeams = maximumTeams
  }

  /// The most members that a team names.
  private static let maximumNamed = 1000
  /// The most members that the teams of one page name together, so that a page stays below its maximum size.
  private static let maximumNamedPerPage = 25_000

  /// A team with the members that it names.
  package struct View: Sendable {
    package let team: Team
    /// The first 1,000, in the order in which they came.
    package let members: [TeamMember]
    /// With the role `admin` or `super_admin`; the first 1,000.
    package let managers: [TeamMember]

    package var superAdmin: TeamMember? { managers.first { $0.role == .superAdmin } }
  }

  private static func view(_ team: Team, in transaction: Transaction) async throws -> View {
    View(
      team: team,
      members: try await TeamStore.members(of: team.id, limit: maximumNamed, in: transaction),
      managers: try await TeamStore.members(
        of: team.id, onlyManagers: true, limit: maximumNamed, in: transaction))
  }

  // MARK: Privileges

  private static func standing(
    of user: UserID, in team: Team, _ transaction: Transaction
  ) async throws -> TeamStanding {
    let role = try await TeamStore.role(of: user, in: team.id, transaction)
    var managesOrganization = false
    if let organization = team.organization {
      managesOrganization =
        try await TeamStore.role(of: user, in: organization, transaction)?.isManager ?? false
    }
    return TeamStanding(role: role, managesOrganization: managesOrganization)
  }

  /// Returns the team if the caller has the privilege in it.
  private static func require(
    _ privilege: TeamPrivilege, of user: UserID, in team: Team?, _ transaction: Transaction
  ) async throws -> (Team, TeamStanding) {
    guard let team else { throw AppError(.teamNotFound) }
    let standing = try await standing(of: user, in: team, transaction)
    try standing.require(privilege)
    return (team, standing)
  }

  /// Runs a change in a transaction that has locked the team, if the caller has the privilege.
  private func change<Result: Sendable>(
    _ id: TeamID, by caller: Caller, _ privilege: TeamPrivilege,
    writing writeClass: WriteClass = .ordinary,
    _ body: @escaping @Sendable (Team, TeamStanding, Transaction) async throws -> Result
  ) async throws -> Result {
    try await database.write(writeClass) { transaction in
      let team = try await TeamStore.teamForUpdate(id, in: transaction)
      let (found, standing) = try await Self.require(
        privilege, of: caller.userID, in: team, transaction)
      return try await body(found, standing, transaction)
    }
  }

  // MARK: Reading

  /// Throws `team_not_found` unless the caller may see the team.
  package func requireVisible(_ id: TeamID, to caller: Caller) async throws {
    try await database.read { transaction in
      let team = try await TeamStore.team(id, in: transaction)
      _ = try await Self.require(.see, of: caller.userID, in: team, transaction)
    }
  }

  package func view(_ id: TeamID, as caller: Caller) async throws -> View {
    try await database.read { transaction in
      let team = try await TeamStore.team(id, in: transaction)
      let (found, _) = try await Self.require(.see, of: caller.userID, in: team, transaction)
      return try await Self.view(found, in: transaction)
    }
  }

  /// Which of the caller's teams a list shows.
  package struct Filter: Sendable {
    /// A part of the name.
    package let query: String?
    package let tag: String?
    /// The teams of this organization; its managers see all of them.
    package let organization: OrganizationID?
    package let after: (createdAt: Timestamp, id: TeamID)?
  }

  /// The caller's teams in the order in which they were made. `hasMore` tells whether there are more behind them.
  package func list(
    for caller: Caller, _ filter: Filter, limit: Int
  ) async throws -> (views: [View], hasMore: Bool) {
    try await database.read { transaction in
      var showsAll = false
      if let organization = filter.organization {
        showsAll =
          try await TeamStore.role(of: caller.userID, in: organization, transaction)?.isManager
          ?? false
      }
      let teams = try await TeamStore.teams(
        TeamStore.Selection(
          user: caller.userID, organization: filter.organization, showsAll: showsAll,
          query: filter.query, tag: filter.tag, after: filter.after),
        limit: limit + 1, in: transaction)
      var views: [View] = []
      var named = 0
      for team in teams.prefix(limit) {
        guard views.isEmpty || named < Self.maximumNamedPerPage else { break }
        let view = try await Self.view(team, in: transaction)
        named += view.members.count + view.managers.count
        views.append(view)
      }
      return (views, views.count < teams.count)
    }
  }

  /// Members of a team after `place`, in the order in which they came. Returns `limit` + 1 if there are more than
  /// `limit`.
  package func members(
    of id: TeamID, as caller: Caller, behind place: (joinedAt: Timestamp, user: UserID)?,
    limit: Int
  ) async throws -> [TeamMember] {
    try await database.read { transaction in
      let team = try await TeamStore.team(id, in: transaction)
      _ = try await Self.require(.see, of: caller.userID, in: team, transaction)
      return try await TeamStore.members(
        of: id, behind: place, limit: limit + 1, in: transaction)
    }
  }

  // MARK: Teams

  /// The properties of a new team.
  package struct NewTeam: Sendable {
    package let name: String
    package let icon: String?
    package let metaTags: [String]
    package let organization: OrganizationID?
  }

  /// Makes a team with its channel. The caller is its super_admin. Throws `forbidden` if it belongs to an organization
  /// that the caller does not manage, and `too_many_rooms`.
  package func create(_ new: NewTeam, by caller: Caller) async throws -> View {
    try await database.write { transaction in
      // One transaction at a time for each person, so that the count of teams is right.
      try await transaction.exclusively(on: Int64(bitPattern: caller.userID.uuid.low))
      if let organization = new.organization {
        let role = try await TeamStore.role(of: caller.userID, in: organization, transaction)
        // For those outside, the organization does not exist. It has no code of its own yet.
        guard let role else { throw AppError(.notFound) }
        guard role.isManager else { throw AppError(.forbidden) }
      }
      let count = try await TeamStore.teamCount(
        madeBy: caller.userID, limit: Int64(self.maximumTeams), in: transaction)
      guard count < Int64(self.maximumTeams) else { throw AppError(.tooManyRooms) }
      let now = Timestamp.now
      let team = Team(
        id: .make(), name: new.name, icon: new.icon, metaTags: new.metaTags,
        organization: new.organization, createdAt: now)
      try transaction.willLock(.teams)
      try await TeamStore.insert(team, by: caller.userID, in: transaction)
      try await TeamStore.add(
        caller.userID, to: team.id, as: .superAdmin, at: now, in: transaction)
      let channel = try await self.rooms.makeChannel(
        of: team, by: caller.userID, in: transaction)
      try await TeamStore.setChannel(channel, of: team.id, in: transaction)
      try await self.memberships.changed([caller.userID], in: transaction)
      return try await Self.viewAgain(team.id, in: transaction)
    }
  }

  private static func viewAgain(
    _ id: TeamID, in transaction: Transaction
  ) async throws -> View {
    guard let team = try await TeamStore.team(id, in: transaction) else {
      throw AppError(.teamNotFound)
    }
    return try await view(team, in: transaction)
  }

  /// A change of a team. Nil leaves a property as it is.
  package struct Change: Sendable {
    package let name: String?
    /// An inner nil removes the icon.
    package let icon: String??
    package let metaTags: [String]?
    package let isActive: Bool?

    var isEdit: Bool { name != nil || icon != nil || metaTags != nil }
  }

  package func update(_ id: TeamID, _ change: Change, by caller: Caller) async throws -> View {
    // Deactivating takes a right away, which must be possible even if the disk is nearly full.
    let writeClass: WriteClass = change.isActive == false ? .essential : .ordinary
    return try await self.change(id, by: caller, .see, writing: writeClass) {
      team, standing, transaction in
      if change.isEdit { try standing.require(.edit) }
      if change.isActive != nil { try standing.require(.own) }
      var new = team
      new.name = change.name ?? team.name
      new.icon = change.icon ?? team.icon
      new.metaTags = change.metaTags ?? team.metaTags
      new.isActive = change.isActive ?? team.isActive
      try await TeamStore.update(new, in: transaction)
      if new.name != team.name {
        try await self.rooms.apply(
          .renamed(new.name), to: team, by: caller.userID, in: transaction)
      }
      if new.isActive != team.isActive {
        try await self.rooms.apply(
          new.isActive ? .activated : .deactivated, to: team, by: caller.userID, in: transaction)
      }
      return try await Self.viewAgain(id, in: transaction)
    }
  }

  package func delete(_ id: TeamID, by caller: Caller) async throws {
    try await change(id, by: caller, .own, writing: .essential) { team, _, transaction in
      let members = try await TeamStore.memberIDs(of: id, in: transaction)
      try await self.rooms.apply(.deleted, to: team, by: caller.userID, in: transaction)
      try await TeamStore.markDeleted(id, at: .now, in: transaction)
      try await self.memberships.changed(members, in: transaction)
    }
  }

  // MARK: Members

  /// Whom a request names.
  package enum Candidate: Sendable {
    case user(UserID)
    case email(String)
  }

  package enum Addition: Sendable {
    case added(TeamMember)
    case alreadyIn(TeamMember)
    /// The person was asked, or nobody has this e-mail address.
    case invited
  }

  /// Adds a person with the role `user`. Somebody outside the caller's circle is asked first.
  package func add(
    _ candidate: Candidate, to id: TeamID, by caller: Caller
  ) async throws -> Addition {
    try await change(id, by: caller, .manageMembers) { team, _, transaction in
      let user: UserID
      switch candidate {
      case .user(let named):
        guard try await AccountStore.user(named, in: transaction) != nil else {
          throw AppError(.userNotFound)
        }
        user = named
      case .email(let email):
        guard let found = try await AccountStore.user(email: email, in: transaction) else {
          // Nobody learns from this which addresses have an account.
          if team.organization != nil { throw AppError(.userNotFound) }
          return .invited
        }
        user = found.user.id
      }
      if let organization = team.organization,
        try await TeamStore.role(of: user, in: organization, transaction) == nil
      {
        throw AppError(.userNotFound)
      }
      if let member = try await TeamStore.member(user, of: id, in: transaction) {
        return .alreadyIn(member)
      }
      // Whoever adds somebody to the team of an organization does so for the organization, to which both belong.
      let isKnown =
        team.organization != nil || user == caller.userID
        ? true : try await self.circle.contains(user, of: caller.userID, in: transaction)
      if try await BlockStore.createdAt(caller.userID, for: user, in: transaction) != nil {
        // Nobody learns from this which addresses have an account.
        if case .email = candidate, !isKnown { return .invited }
        throw AppError(.blocked)
      }
      guard isKnown else {
        try await TeamStore.invite(
          user, to: id, id: .version4(), by: caller.userID, at: .now, in: transaction)
        return .invited
      }
      return .added(
        try await self.enter(user, team, .added(user), by: caller.userID, in: transaction))
    }
  }

  private func enter(
    _ user: UserID, _ team: Team, _ change: TeamChange, by actor: UserID,
    in transaction: Transaction
  ) async throws -> TeamMember {
    try await TeamStore.add(user, to: team.id, as: .user, at: .now, in: transaction)
    try await TeamStore.removeInvitation(of: user, to: team.id, in: transaction)
    try await rooms.apply(change, to: team, by: actor, in: transaction)
    try await memberships.changed([user], in: transaction)
    guard let member = try await TeamStore.member(user, of: team.id, in: transaction) else {
      throw AppError(.userNotFound)
    }
    return member
  }

  /// Removes a member. Removing oneself is leaving.
  package func remove(_ user: UserID, from id: TeamID, by caller: Caller) async throws {
    if user == caller.userID { return try await leave(id, by: caller) }
    try await change(id, by: caller, .manageMembers, writing: .essential) {
      team, standing, transaction in
      switch try await TeamStore.role(of: user, in: id, transaction) {
      case nil: throw AppError(.userNotFound)
      case .superAdmin: throw AppError(.handOverFirst)
      case .admin: try standing.require(.manageAdmins)
      case .user: break
      }
      try await self.exit(user, team, .removed(user), by: caller.userID, in: transaction)
    }
  }

  package func leave(_ id: TeamID, by caller: Caller) async throws {
    try await change(id, by: caller, .leave, writing: .essential) { team, _, transaction in
      try await self.exit(
        caller.userID, team, .left(caller.userID), by: caller.userID, in: transaction)
    }
  }

  private func exit(
    _ user: UserID, _ team: Team, _ change: TeamChange, by actor: UserID,
    in transaction: Transaction
  ) async throws {
    try await TeamStore.remove(user, from: team.id, in: transaction)
    try await rooms.apply(change, to: team, by: actor, in: transaction)
    try await memberships.changed([user], in: transaction)
  }

  /// Removes somebody from all teams, because the account is erased. Throws `hand_over_first`, with the teams as details,
  /// if it is the super_admin of some; not with `isForced`. The caller must call `MembershipDirectory.changed` afterwards.
  func leaveAll(
    _ user: UserID, isForced: Bool, in transaction: Transaction
  ) async throws {
    var teams: [Team] = []
    // In ascending order, so that two transactions never wait for each other.
    for id in try await TeamStore.teams(of: user, in: transaction) {
      if let team = try await TeamStore.teamForUpdate(id, in: transaction) { teams.append(team) }
    }
    var owned: [Team] = []
    for team in teams where !isForced {
      let role = try await TeamStore.role(of: user, in: team.id, transaction)
      if role == .superAdmin { owned.append(team) }
    }
    guard owned.isEmpty else {
      throw AppError(
        .handOverFirst,
        details: owned.map { .init(field: "teams", message: "\($0.id): \($0.name)") })
    }
    try await rooms.lock(teams, with: user, in: transaction)
    for team in teams {
      try await TeamStore.remove(user, from: team.id, in: transaction)
      try await rooms.apply(.left(user), to: team, by: user, in: transaction)
    }
  }

  // MARK: Admins

  /// Makes a member an admin, or takes that back. Returns the member as it is afterwards.
  @discardableResult
  package func setAdmin(
    _ isAdmin: Bool, _ user: UserID, in id: TeamID, by caller: Caller
  ) async throws -> TeamMember {
    try await change(id, by: caller, .manageAdmins, writing: isAdmin ? .ordinary : .essential) {
      team, _, transaction in
      guard let member = try await TeamStore.member(user, of: id, in: transaction) else {
        throw AppError(.userNotFound)
      }
      if member.role == .superAdmin { throw AppError(.handOverFirst) }
      let role: TeamRole = isAdmin ? .admin : .user
      guard member.role != role else { return member }
      try await AffiliationStore.setRole(role, of: user, in: id, at: .now, transaction)
      try await self.rooms.apply(
        isAdmin ? .madeAdmin(user) : .unmadeAdmin(user), to: team, by: caller.userID,
        in: transaction)
      try await self.memberships.changed([user], in: transaction)
      return TeamMember(
        userID: user, name: member.name, email: member.email, role: role,
        joinedAt: member.joinedAt)
    }
  }

  /// Makes another member the super_admin. The present one becomes an admin.
  package func handOver(_ id: TeamID, to user: UserID, by caller: Caller) async throws -> View {
    try await change(id, by: caller, .own) { team, _, transaction in
      guard let role = try await TeamStore.role(of: user, in: id, transaction) else {
        throw AppError(.userNotFound)
      }
      if role != .superAdmin {
        let present = try await TeamStore.superAdmin(of: id, in: transaction)
        try await AffiliationStore.setRole(.superAdmin, of: user, in: id, at: .now, transaction)
        if let present {
          try await AffiliationStore.setRole(.admin, of: present, in: id, at: .now, transaction)
          try await self.rooms.apply(
            .handedOver(from: present, to: user), to: team, by: caller.userID, in: transaction)
        }
        try await self.memberships.changed([user] + (present.map { [$0] } ?? []), in: transaction)
      }
      return try await Self.viewAgain(id, in: transaction)
    }
  }

  // MARK: Invitations

  /// The caller's invitations to teams after `place`, oldest first, at most `limit`.
  package func invitations(
    of caller: Caller, behind place: (createdAt: Timestamp, id: UUID)?, limit: Int
  ) async throws -> [TeamInvitation] {
    try await database.read {
      try await TeamStore.invitations(
        of: caller.userID, behind: place, limit: limit, in: $0)
    }
  }

  /// Answers an invitation to a team. Returns false if the caller has no such invitation.
  package func answer(
    _ id: UUID, isAccepted: Bool, by caller: Caller
  ) async throws -> TeamInvitation? {
    try await database.write { transaction in
      let user = caller.userID
      guard let invitation = try await TeamStore.invitation(id, of: user, in: transaction),
        let team = try await TeamStore.teamForUpdate(invitation.team, in: transaction),
        // It may have been answered or withdrawn before the lock was there.
        try await TeamStore.invitation(id, of: user, in: transaction) != nil
      else { return nil }
      let isMember = try await TeamStore.role(of: user, in: team.id, transaction) != nil
      if isAccepted, !isMember {
        _ = try await self.enter(user, team, .joined(user), by: user, in: transaction)
      } else {
        try await TeamStore.removeInvitation(of: user, to: team.id, in: transaction)
      }
      return invitation
    }
  }
}
