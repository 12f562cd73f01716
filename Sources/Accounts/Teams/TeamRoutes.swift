internal import Access
package import Basics
package import Web

/// The HTTP routes of teams and their members.
package struct TeamRoutes: Sendable {
  private let teams: Teams
  private let audit: Audit

  package init(teams: Teams, audit: Audit) {
    self.teams = teams
    self.audit = audit
  }

  package func add(to router: inout Router) {
    router.on(.get, "/v1/teams", policy: .localUser) { try await list($0) }
    router.on(.post, "/v1/teams", policy: .localUser) { try await create($0) }
    router.on(.get, "/v1/teams/{id}", policy: .team(.member)) { try await get($0, $1) }
    router.on(.patch, "/v1/teams/{id}", policy: .team(.manage)) { try await update($0, $1) }
    router.on(.delete, "/v1/teams/{id}", policy: .team(.own)) {
      (request, team: TeamInPath) in
      try await teams.delete(team.id, by: request.caller)
      audit.record("delete_team", request, ["team_id": .init(team.id)])
      return .noContent
    }
    router.on(.get, "/v1/teams/{id}/members", policy: .team(.member)) {
      try await members($0, $1)
    }
    router.on(.post, "/v1/teams/{id}/members", policy: .team(.manage)) {
      try await addMember($0, $1)
    }
    router.on(.delete, "/v1/teams/{id}/members/{user_id}", policy: .team(.manageOrSelf)) {
      (request, team: TeamInPath, user: UserInPath) in
      try await teams.remove(user.id, from: team.id, by: request.caller)
      audit.record(
        "remove_team_member", request, ["team_id": .init(team.id), "user_id": .init(user.id)])
      return .noContent
    }
    router.on(.put, "/v1/teams/{id}/admins/{user_id}", policy: .team(.own)) {
      (request, team: TeamInPath, user: UserInPath) in
      let member = try await teams.setAdmin(true, user.id, in: team.id, by: request.caller)
      audit.record(
        "make_team_admin", request, ["team_id": .init(team.id), "user_id": .init(user.id)])
      return .data { $0.value(member) }
    }
    router.on(.delete, "/v1/teams/{id}/admins/{user_id}", policy: .team(.own)) {
      (request, team: TeamInPath, user: UserInPath) in
      try await teams.setAdmin(false, user.id, in: team.id, by: request.caller)
      audit.record(
        "unmake_team_admin", request, ["team_id": .init(team.id), "user_id": .init(user.id)])
      return .noContent
    }
    router.on(.put, "/v1/teams/{id}/super_admin", policy: .team(.own)) {
      try await handOver($0, $1)
    }
    router.on(.post, "/v1/teams/{id}/leave", policy: .team(.member)) {
      (request, team: TeamInPath) in
      try await teams.leave(team.id, by: request.caller)
      audit.record("leave_team", request, ["team_id": .init(team.id)])
      return .noContent
    }
  }

  private static let nameLength = 1...120
  private static let iconBytes = 2048
  private static let tagLength = 1...40
  private static let maximumTags = 20
  private static let queryLength = 1...120

  // MARK: Teams

  private func list(_ request: AuthenticatedRequest) async throws -> Response {
    var fields = request.query.fields
    let page = PageRequest(&fields)
    let place = page.cursor.flatMap { ListPlace($0) }
    if page.cursor != nil, place == nil { fields.fault("cursor", "is not one of ours") }
    let query = fields.optionalString("q", Self.queryLength)
    let tag = fields.optionalString("tag", Self.tagLength)
    let organization = fields.has("organization_id") ? fields.uuid("organization_id") : nil
    let expandsUsers = Self.expandsUsers(&fields)
    try fields.finish()
    let found = try await teams.list(
      for: request.caller,
      Teams.Filter(
        query: query, tag: tag, organization: organization.map { OrganizationID($0) },
        after: place.map { ($0.time, TeamID($0.id)) }), limit: page.limit)
    return .list(found.views, limit: page.limit, hasMore: found.hasMore) {
      ListPlace(time: $0.team.createdAt, id: $0.team.id.uuid).description
    } _: {
      $0.value($1, expandsUsers: expandsUsers)
    }
  }

  /// Whether the answer names people by their e-mail addresses instead of their ids.
  private static func expandsUsers(_ fields: inout Fields) -> Bool {
    guard fields.has("expand") else { return false }
    return fields.word("expand", as: Expansion.self) == .users
  }

  private enum Expansion: String, CaseIterable { case users }

  private func create(_ request: AuthenticatedRequest) async throws -> Response {
    var fields = Fields(try await request.json())
    let name = fields.string("name", Self.nameLength)
    let icon = Self.icon(&fields) ?? nil
    let tags = Self.tags(&fields) ?? []
    let organization = fields.has("organization_id") ? fields.uuid("organization_id") : nil
    try fields.finish()
    let view = try await teams.create(
      Teams.NewTeam(
        name: name, icon: icon, metaTags: tags,
        organization: organization.map { OrganizationID($0) }), by: request.caller)
    audit.record("create_team", request, ["team_id": .init(view.team.id)])
    return .data(status: 201) { $0.value(view, expandsUsers: false) }
  }

  private func get(_ request: AuthenticatedRequest, _ team: TeamInPath) async throws -> Response {
    let expandsUsers = try await form(of: request, team.id) { fields in
      let expandsUsers = Self.expandsUsers(&fields)
      try fields.finish()
      return expandsUsers
    }
    let view = try await teams.view(team.id, as: request.caller)
    return .data { $0.value(view, expandsUsers: expandsUsers) }
  }

  /// The members that nobody can change here.
  private static let fixedMembers = [
    "id", "members", "admins", "super_admin", "doc", "created_at", "channel_id", "room_id",
    "organization_id", "member_count",
  ]

  private func update(
    _ request: AuthenticatedRequest, _ team: TeamInPath
  ) async throws -> Response {
    let change = try await form(of: request, team.id) { fields in
      for member in Self.fixedMembers where fields.has(member) {
        fields.fault(member, "cannot be changed here")
      }
      let change = Teams.Change(
        name: fields.optionalString("name", Self.nameLength), icon: Self.icon(&fields),
        metaTags: Self.tags(&fields), isActive: fields.optionalBool("active"))
      try fields.finish()
      return change
    }
    let view = try await teams.update(team.id, change, by: request.caller)
    audit.record("update_team", request, ["team_id": .init(team.id)])
    return .data { $0.value(view, expandsUsers: false) }
  }

  /// The icon; nil if the body says nothing about it, an inner nil for null.
  private static func icon(_ fields: inout Fields) -> String?? {
    switch fields.value("icon") {
    case nil: return nil
    case .null: return .some(nil)
    default:
      let icon = fields.string("icon", 1...iconBytes)
      if !isIcon(icon) {
        fields.fault("icon", "must be an http or https URI of at most \(iconBytes) bytes")
      }
      return icon
    }
  }

  /// Whether the text is an absolute URI with a host (RFC 3986, 3.2). Its other parts are not checked: the server never
  /// follows it.
  private static func isIcon(_ text: String) -> Bool {
    let scheme = ["https://", "http://"].first { text.lowercased().hasPrefix($0) }
    guard let scheme, text.utf8.count <= iconBytes,
      text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && !#""<>\^`{|}"#.utf8.contains($0) })
    else { return false }
    let host = text.dropFirst(scheme.count).prefix { !"/?#".contains($0) }
    return !host.isEmpty && !host.hasPrefix(":")
  }

  /// The tags, each once; nil if the body does not have them.
  private static func tags(_ fields: inout Fields) -> [String]? {
    guard fields.has("meta_tags") else { return nil }
    guard case .array(let values)? = fields.value("meta_tags"), values.count <= maximumTags else {
      fields.fault("meta_tags", "must be a list of at most \(maximumTags) tags")
      return nil
    }
    var tags: [String] = []
    for value in values {
      guard let tag = value.string, tagLength.contains(tag.unicodeScalars.count),
        !tag.unicodeScalars.contains(where: { $0.properties.generalCategory == .control })
      else {
        fields.fault(
          "meta_tags",
          "must be texts of \(tagLength.lowerBound) to \(tagLength.upperBound) characters")
        return nil
      }
      if !tags.contains(tag) { tags.append(tag) }
    }
    return tags
  }

  // MARK: Members

  private func members(
    _ request: AuthenticatedRequest, _ team: TeamInPath
  ) async throws -> Response {
    let (page, place) = try await form(of: request, team.id) { fields in
      let page = PageRequest(&fields)
      let place = page.cursor.flatMap { ListPlace($0) }
      if page.cursor != nil, place == nil { fields.fault("cursor", "is not one of ours") }
      try fields.finish()
      return (page, place)
    }
    let members = try await teams.members(
      of: team.id, as: request.caller, behind: place.map { ($0.time, UserID($0.id)) },
      limit: page.limit)
    return .list(members, limit: page.limit) {
      ListPlace(time: $0.joinedAt, id: $0.userID.uuid).description
    } _: {
      $0.value($1)
    }
  }

  private func addMember(
    _ request: AuthenticatedRequest, _ team: TeamInPath
  ) async throws -> Response {
    let candidate = try await form(of: request, team.id) { fields -> Teams.Candidate in
      if fields.has("email"), !fields.has("user_id") {
        let email = fields.string("email", AccountRules.emailLength)
        if !AccountRules.isEmailAddress(email) {
          fields.fault("email", "must be an e-mail address")
        }
        try fields.finish()
        return .email(email)
      }
      if fields.has("email") { fields.fault("email", "cannot be given together with user_id") }
      let user = fields.uuid("user_id")
      try fields.finish()
      guard let user else { throw AppError(.validationFailed) }
      return .user(UserID(user))
    }
    switch try await teams.add(candidate, to: team.id, by: request.caller) {
    case .added(let member):
      audit.record(
        "add_team_member", request,
        ["team_id": .init(team.id), "user_id": .init(member.userID)])
      return .data(status: 201) { $0.value(member) }
    case .alreadyIn(let member): return .data { $0.value(member) }
    case .invited:
      audit.record("invite_team_member", request, ["team_id": .init(team.id)])
      return .data(status: 202) { $0.object { $0.member("status", "invited") } }
    }
  }

  private func handOver(
    _ request: AuthenticatedRequest, _ team: TeamInPath
  ) async throws -> Response {
    let user = try await form(of: request, team.id) { fields in
      let user = fields.uuid("user_id")
      try fields.finish()
      guard let user else { throw AppError(.validationFailed) }
      return UserID(user)
    }
    let view = try await teams.handOver(team.id, to: user, by: request.caller)
    audit.record(
      "hand_over_team", request, ["team_id": .init(team.id), "user_id": .init(user)])
    return .data { $0.value(view, expandsUsers: false) }
  }

  /// The parameters of a request to a team, from its query or its body. Only those who see the team are told about
  /// malformed parameters; for everyone else there is no team.
  private func form<Form>(
    of request: AuthenticatedRequest, _ id: TeamID, _ read: (inout Fields) throws -> Form
  ) async throws -> Form {
    do {
      var fields =
        request.method.isSafe ? request.query.fields : Fields(try await request.json())
      return try read(&fields)
    } catch {
      try await teams.requireVisible(id, to: request.caller)
      throw error
    }
  }
}

// MARK: - JSON

extension JSONWriter {
  fileprivate mutating func value(_ view: Teams.View, expandsUsers: Bool) {
    func name(_ member: TeamMember) -> String {
      expandsUsers ? member.email : member.userID.description
    }
    let team = view.team
    object {
      $0.member("id", team.id)
      $0.member("name", team.name)
      if let icon = team.icon { $0.member("icon", icon) } else { $0.nullMember("icon") }
      $0.member("active", team.isActive)
      $0.key("meta_tags")
      $0.array(of: team.metaTags) { $0.value($1) }
      $0.key("members")
      $0.array(of: view.members) { $0.value(name($1)) }
      // As in the sample of the system that this API continues: the super_admin is among the admins.
      $0.key("admins")
      $0.array(of: view.managers) { $0.value(name($1)) }
      if let superAdmin = view.superAdmin {
        $0.member("super_admin", name(superAdmin))
      } else {
        $0.nullMember("super_admin")
      }
      $0.member("doc", HTTPDate.text(team.createdAt.milliseconds / 1000))
      $0.member("created_at", team.createdAt)
      $0.member("channel_id", team.id)
      if let channel = team.channel {
        $0.member("room_id", channel.value)
      } else {
        $0.nullMember("room_id")
      }
      if let organization = team.organization {
        $0.member("organization_id", organization)
      } else {
        $0.nullMember("organization_id")
      }
      $0.member("member_count", team.memberCount)
    }
  }

  fileprivate mutating func value(_ member: TeamMember) {
    object {
      $0.member("user_id", member.userID)
      $0.member("name", member.name)
      $0.member("email", member.email)
      $0.member("role", member.role.rawValue)
      $0.member("joined_at", member.joinedAt)
    }
  }
}

// MARK: Path parameters

private struct TeamInPath: PathParameter {
  let id: TeamID

  init?(pathComponent: String) {
    guard let id = TeamID(pathComponent) else { return nil }
    self.id = id
  }

  static var notFound: ErrorCode { .teamNotFound }
}

/// An account, named in a path.
package struct UserInPath: PathParameter {
  package let id: UserID

  package init?(pathComponent: String) {
    guard let id = UserID(pathComponent) else { return nil }
    self.id = id
  }

  package static var notFound: ErrorCode { .userNotFound }
}
