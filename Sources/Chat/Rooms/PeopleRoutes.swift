internal import Access
internal import Accounts
internal import Basics
package import Web

/// The HTTP routes of the people and roles of rooms, and of dialogs.
package struct PeopleRoutes: Sendable {
  private let rooms: Rooms
  private let dialogs: Dialogs
  private let audit: Audit

  package init(rooms: Rooms, dialogs: Dialogs, audit: Audit) {
    self.rooms = rooms
    self.dialogs = dialogs
    self.audit = audit
  }

  package func add(to router: inout Router) {
    router.on(.put, "/v1/dialogs/{user_id}", policy: .localUser) { (request, user: UserInPath) in
      let (view, isNew) = try await dialogs.dialog(of: request.caller, with: user.id)
      if isNew { audit.record("create_room", request, ["room_id": .init(view.room.id)]) }
      return .data(status: isNew ? 201 : 200) { $0.value(view) }
    }
    for room in ["/v1/rooms/{id}", "/rooms/{id}"] {
      router.on(.get, room + "/people", policy: .room(.read)) { try await people($0, $1) }
      router.on(.put, room + "/people/{user_id}", policy: .room(.manage)) {
        try await setPerson($0, $1, $2)
      }
      router.on(.delete, room + "/people/{user_id}", policy: .room(.manageOrSelf)) {
        (request, id: RoomID, user: UserInPath) in
        try await rooms.removePerson(user.id, from: id, by: request.caller)
        audit.record("remove_person", request, ["room_id": .init(id), "user_id": .init(user.id)])
        return .noContent
      }
      router.on(.get, room + "/members/{entity_UUID}", policy: .room(.read)) {
        (request, id: RoomID, user: UserInPath) in
        let membership = try await rooms.membership(of: user.id, in: id, as: request.caller)
        return .data { $0.value(membership) }
      }
      router.on(.get, room + "/roles", policy: .room(.read)) { (request, id: RoomID) in
        // A room has at most twenty roles, so one page holds all of them.
        let roles = try await rooms.roles(of: id, as: request.caller)
        return .list(roles, limit: roles.count) {
          $0.id.description
        } _: {
          $0.value($1)
        }
      }
      router.on(.post, room + "/roles", policy: .room(.manage)) { try await createRole($0, $1) }
      router.on(.patch, room + "/roles/{role_id}", policy: .room(.manage)) {
        try await updateRole($0, $1, $2)
      }
      router.on(.delete, room + "/roles/{role_id}", policy: .room(.manage)) {
        (request, id: RoomID, role: RoleInPath) in
        try await rooms.removeRole(role.id, from: id, by: request.caller)
        audit.record("remove_role", request, ["room_id": .init(id), "role_id": .init(role.id)])
        return .noContent
      }
    }
  }

  private static let roleNameLength = 1...40

  // MARK: People

  private func people(_ request: AuthenticatedRequest, _ id: RoomID) async throws -> Response {
    let (page, place) = try await rooms.form(of: request, id, .read) { fields in
      let page = PageRequest(&fields)
      let place = page.cursor.flatMap { ListPlace($0) }
      if page.cursor != nil, place == nil { fields.fault("cursor", "is not one of ours") }
      try fields.finish()
      return (page, place)
    }
    let people = try await rooms.people(
      of: id, as: request.caller, behind: place.map { ($0.time, UserID($0.id)) },
      limit: page.limit)
    return .list(people, limit: page.limit) {
      ListPlace(time: $0.person.joinedAt, id: $0.person.userID.uuid).description
    } _: {
      $0.value($1)
    }
  }

  private func setPerson(
    _ request: AuthenticatedRequest, _ id: RoomID, _ user: UserInPath
  ) async throws -> Response {
    // The body may be absent, because all of its members are optional.
    let role = try await rooms.form(of: request, id, .manage, mayBeAbsent: true) {
      fields -> RoleID?? in
      var role: RoleID??
      switch fields.value("role_id") {
      case nil: role = nil
      case .null: role = .some(nil)
      default: role = fields.uuid("role_id").map { RoleID($0) }
      }
      try fields.finish()
      return role
    }
    let naming = try await rooms.setPerson(user.id, role: role, in: id, by: request.caller)
    audit.record("set_person", request, ["room_id": .init(id), "user_id": .init(user.id)])
    switch naming {
    case .named(let view): return .data { $0.value(view) }
    case .invited:
      return .data(status: 202) { $0.object { $0.member("status", "invited") } }
    }
  }

  // MARK: Roles

  private func createRole(_ request: AuthenticatedRequest, _ id: RoomID) async throws -> Response {
    let (name, permissions) = try await rooms.form(of: request, id, .manage) { fields in
      let name = fields.string("name", Self.roleNameLength)
      let permissions = fields.letters("permissions")
      try fields.finish()
      return (name, permissions)
    }
    let role = try await rooms.createRole(
      name: name, permissions: permissions, in: id, by: request.caller)
    audit.record("create_role", request, ["room_id": .init(id), "role_id": .init(role.id)])
    return .data(status: 201) { $0.value(role) }
  }

  private func updateRole(
    _ request: AuthenticatedRequest, _ id: RoomID, _ role: RoleInPath
  ) async throws -> Response {
    let (name, permissions) = try await rooms.form(of: request, id, .manage) { fields in
      if let given = fields.value("id")?.string, given != role.id.description {
        fields.fault("id", "cannot be changed")
      }
      let name = fields.optionalString("name", Self.roleNameLength)
      let permissions = fields.optionalLetters("permissions")
      try fields.finish()
      return (name, permissions)
    }
    let new = try await rooms.updateRole(
      role.id, name: name, permissions: permissions, in: id, by: request.caller)
    audit.record("update_role", request, ["room_id": .init(id), "role_id": .init(role.id)])
    return .data { $0.value(new) }
  }
}

// MARK: - JSON

extension JSONWriter {
  fileprivate mutating func value(_ view: Rooms.PersonView) {
    object {
      $0.member("user_id", view.person.userID)
      $0.member("name", view.name)
      if let role = view.person.roleID {
        $0.member("role_id", role)
      } else {
        $0.nullMember("role_id")
      }
      $0.member("permissions", view.permissions.letters)
      $0.member("joined_at", view.person.joinedAt)
      $0.member("accepted", view.person.isAccepted)
    }
  }

  fileprivate mutating func value(_ role: RoomRole) {
    object {
      $0.member("id", role.id)
      $0.member("name", role.name)
      $0.member("permissions", role.permissions.letters)
    }
  }

  fileprivate mutating func value(_ membership: Rooms.Membership) {
    object {
      $0.member("user_id", membership.userID)
      $0.member("is_member", membership.standing.isMember)
      $0.member("permissions", membership.standing.permissions.letters)
      $0.member("level", membership.standing.level)
      $0.key("via")
      $0.array(of: membership.sources.words) { $0.value($1) }
    }
  }
}

extension RuleEngine.Sources {
  fileprivate var words: [String] {
    [(Self.rule, "rule"), (.people, "people"), (.team, "team")]
      .filter { contains($0.0) }.map(\.1)
  }
}

// MARK: Path parameters

private struct RoleInPath: PathParameter {
  let id: RoleID

  init?(pathComponent: String) {
    guard let id = RoleID(pathComponent) else { return nil }
    self.id = id
  }

  static var notFound: ErrorCode { .roleNotFound }
}
