package import Access
package import Basics
package import Web

/// The HTTP routes of rooms and their rules: under `/v1`, and under the paths that clients of nano-messaging use.
package struct RoomRoutes: Sendable {
  private let rooms: Rooms
  private let roomList: RoomList
  private let audit: Audit

  package init(rooms: Rooms, roomList: RoomList, audit: Audit) {
    self.rooms = rooms
    self.roomList = roomList
    self.audit = audit
  }

  package func add(to router: inout Router) {
    for prefix in ["/v1/rooms", "/rooms"] {
      router.on(.get, prefix, policy: .caller) { try await list($0) }
      router.on(.post, prefix, policy: .room(.create)) { try await create($0) }
      router.on(.get, prefix + "/{id}", policy: .room(.member)) { try await get($0, $1) }
      router.on(.put, prefix + "/{id}", policy: .room(.manage)) { try await update($0, $1) }
      router.on(.delete, prefix + "/{id}", policy: .room(.manage)) { try await delete($0, $1) }
      router.on(.get, prefix + "/{id}/members", policy: .room(.read)) { try await members($0, $1) }
      router.on(.put, prefix + "/{id}/members", policy: .room(.manage)) {
        try await setRule($0, $1)
      }
      router.on(.delete, prefix + "/{id}/members/{entity_UUID}", policy: .room(.manageOrOwnRule)) {
        (request, id: RoomID, subject: SubjectInPath) in
        try await rooms.removeRule(subject.id, from: id, by: request.caller)
        audit.record("remove_rule", request, ["room_id": .init(id), "subject": .init(subject.id)])
        return .noContent
      }
      router.on(.put, prefix + "/{id}/invitation", policy: .room(.invited)) {
        try await answerInvitation($0, $1)
      }
    }
  }

  private static let nameLength = 1...120
  private static let levels: ClosedRange<Int64> = 0...Fields.largestInteger

  // MARK: Rooms

  private func list(_ request: AuthenticatedRequest) async throws -> Response {
    var fields = request.query.fields
    let page = PageRequest(&fields)
    let after = page.cursor.map { RoomID($0) }
    if let after, after == nil { fields.fault("cursor", "is not one of ours") }
    try fields.finish()
    let views = try await rooms.list(
      for: request.caller, after: (after ?? nil) ?? RoomID(0), limit: page.limit)
    return .list(views, limit: page.limit) {
      $0.room.id.description
    } _: {
      $0.value($1)
    }
  }

  private func create(_ request: AuthenticatedRequest) async throws -> Response {
    try rooms.requireMayCreate(request.caller)
    var fields = Fields(try await request.json())
    let name = fields.string("name", Self.nameLength)
    let kind = kind(&fields)
    let levelAdmin =
      fields.has("kind") && !fields.has("level_admin")
      ? Room.Properties.highestLevel : fields.integer("level_admin", Self.levels)
    let isByInvitation = fields.optionalBool("invite") ?? false
    let defaultPermissions = fields.optionalLetters("default_permissions")
    let ttlSeconds = fields.optionalInteger("ttl_seconds", Self.ttlSeconds)
    if ttlSeconds != nil, kind != .secret {
      fields.fault("ttl_seconds", "is only for rooms of kind secret")
    }
    let retentionDays = fields.optionalRetention() ?? nil
    try fields.finish()
    let view = try await rooms.create(
      Rooms.NewRoom(
        name: name, kind: kind, levelAdmin: levelAdmin, isByInvitation: isByInvitation,
        defaultPermissions: defaultPermissions ?? [.read, .write], ttlSeconds: ttlSeconds,
        retentionDays: retentionDays),
      by: request.caller)
    audit.record("create_room", request, ["room_id": .init(view.room.id)])
    return .data(status: 201) { $0.value(view) }
  }

  /// The kinds of rooms that can be made by request.
  private enum NewKind: String, CaseIterable { case group, dialog, secret }
  /// At most a year.
  private static let ttlSeconds: ClosedRange<Int64> = 1...31_536_000

  /// The kind of a new room, named by `kind`, or by `type` in the words of the nano protocol.
  private func kind(_ fields: inout Fields) -> RoomKind {
    guard fields.has("kind") else {
      return fields.word("type", as: RoomType.self) == .userToUser ? .dialog : .group
    }
    let kind: RoomKind =
      switch fields.word("kind", as: NewKind.self) {
      case .dialog: .dialog
      case .secret: .secret
      case .group, nil: .group
      }
    if fields.has("type"), let type = fields.word("type", as: RoomType.self), type != kind.type {
      fields.fault("type", "disagrees with kind")
    }
    return kind
  }

  private func get(_ request: AuthenticatedRequest, _ id: RoomID) async throws -> Response {
    let view = try await rooms.view(id, as: request.caller, .member)
    try await roomList.start(request.caller, in: id)
    return .data { $0.value(view) }
  }

  private func update(_ request: AuthenticatedRequest, _ id: RoomID) async throws -> Response {
    let (change, fields) = try await rooms.form(of: request, id, .manage) { fields in
      let change = Rooms.RoomChange(
        name: fields.optionalString("name", Self.nameLength),
        levelAdmin: fields.optionalInteger("level_admin", Self.levels),
        isByInvitation: fields.optionalBool("invite"),
        defaultPermissions: fields.optionalLetters("default_permissions"),
        retentionDays: fields.optionalRetention())
      return (change, fields)
    }
    let view = try await rooms.update(id, change, by: request.caller) { view in
      // Reported together with the faults found above, before any of the values is used.
      var fields = fields
      try Self.findChanged(view, &fields)
      try fields.finish()
    }
    audit.record("update_room", request, ["room_id": .init(id)])
    return .data { $0.value(view) }
  }

  /// The JSON members of a room that cannot be changed, besides `last_seq`.
  private static let fixedMembers = [
    "id", "channel_id", "type", "kind", "owner_user_id", "owner_entity_id", "permissions", "level",
    "team_id", "peer", "created_at", "ttl_seconds",
  ]

  /// Notes a fault if a body gives another value for something that cannot be changed. It may repeat the present
  /// value, because clients send back what they have read. `last_seq` may be older, since the log may have grown.
  private static func findChanged(_ view: Rooms.View, _ fields: inout Fields) throws {
    _ = fields.optionalInteger("last_seq", 0...view.lastSeq)
    let said = fixedMembers.filter { fields.has($0) }
    if said.isEmpty { return }
    var writer = JSONWriter()
    writer.value(view)
    let current = try JSONParser.parse(writer.bytes).object
    for member in said {
      let (new, old) = (fields.value(member), current?[member])
      if new == old { continue }
      let number = old?.wholeNumberOrNumericString
      if number != nil, new?.wholeNumberOrNumericString == number { continue }
      fields.fault(member, "cannot be changed")
    }
  }

  private func delete(_ request: AuthenticatedRequest, _ id: RoomID) async throws -> Response {
    try await rooms.delete(id, by: request.caller)
    audit.record("delete_room", request, ["room_id": .init(id)])
    return .noContent
  }

  // MARK: Rules

  private func members(_ request: AuthenticatedRequest, _ id: RoomID) async throws -> Response {
    let page = try await rooms.form(of: request, id, .read) { fields in
      let page = PageRequest(&fields)
      if let cursor = page.cursor, UUID(cursor) == nil {
        fields.fault("cursor", "is not one of ours")
      }
      try fields.finish()
      return page
    }
    let rules = try await rooms.view(id, as: request.caller, .read).room.rules
      .map { ($0.subject.description, $0) }.sorted { $0.0 < $1.0 }
      .filter { rule in page.cursor.map { rule.0 > $0 } ?? true }.map(\.1)
    return .list(rules, limit: page.limit) {
      $0.subject.description
    } _: {
      $0.value($1)
    }
  }

  private func setRule(_ request: AuthenticatedRequest, _ id: RoomID) async throws -> Response {
    let (subject, permissions, level, isAccepted) = try await rooms.form(of: request, id, .manage) {
      fields -> (UUID, Permissions?, Int64?, Bool?) in
      let subject = fields.uuid("entity_UUID")
      let permissions = self.permissions(&fields)
      let level = fields.optionalInteger("level", Self.levels)
      let isAccepted = fields.optionalBool("accepted")
      try fields.finish()
      guard let subject else { throw AppError(.validationFailed) }
      return (subject, permissions, level, isAccepted)
    }
    let rule = try await rooms.setRule(
      subject, permissions: permissions, level: level, expectingAccepted: isAccepted, in: id,
      by: request.caller)
    audit.record(
      "set_rule", request,
      [
        "room_id": .init(id), "subject": .init(subject),
        "permissions": .string(rule.permissions.letters), "level": .init(rule.level),
      ])
    return .data { $0.value(rule) }
  }

  /// The letters; nil for `false` and `""`, which delete the rule.
  private func permissions(_ fields: inout Fields) -> Permissions? {
    switch fields.value("permissions") {
    case .bool(false), .string(""): return nil
    case .string(let text):
      guard let permissions = Permissions(letters: text) else {
        fields.fault("permissions", "must be letters of rwba, each at most once, or false")
        return nil
      }
      return permissions
    default:
      fields.fault("permissions", "must be letters of rwba, each at most once, or false")
      return nil
    }
  }

  private func answerInvitation(_ request: AuthenticatedRequest, _ id: RoomID) async throws
    -> Response
  {
    let (isAccepted, forEntity) = try await rooms.form(of: request, id, .invited) {
      fields -> (Bool, Bool) in
      let isAccepted = fields.bool("accepted")
      let forEntity = fields.optionalBool("use_parent_entity") ?? false
      try fields.finish()
      return (isAccepted, forEntity)
    }
    let rule = try await rooms.answerInvitation(
      to: id, isAccepted: isAccepted, forEntity: forEntity, by: request.caller)
    audit.record(
      "answer_invitation", request,
      [
        "room_id": .init(id), "subject": .init(rule.subject),
        "accepted": .string(isAccepted ? "true" : "false"),
      ])
    return .data { $0.value(rule) }
  }
}

extension Rooms {
  /// Returns the parameters of a request to a room, from its query or its body. Only callers with the right are told
  /// about malformed parameters; everyone else gets the error for missing rights. With `mayBeAbsent` a missing body
  /// counts as an empty object.
  func form<Form>(
    of request: AuthenticatedRequest, _ id: RoomID, _ right: RoomRight, mayBeAbsent: Bool = false,
    _ read: (inout Fields) throws -> Form
  ) async throws -> Form {
    do {
      var fields =
        request.method.isSafe
        ? request.query.fields : Fields(try await request.json(mayBeAbsent: mayBeAbsent))
      return try read(&fields)
    } catch {
      try await requireRight(right, in: id, of: request.caller)
      throw error
    }
  }
}

// MARK: - JSON

extension JSONWriter {
  package mutating func value(_ view: Rooms.View) { object { $0.members(of: view) } }

  mutating func members(of view: Rooms.View) {
    let room = view.room
    member("id", room.id.value)
    member("channel_id", room.channelID)
    // A dialog that was made for two has no name of its own.
    member("name", room.properties.pair == nil ? room.name : view.peer?.name ?? "")
    member("type", room.type.rawValue)
    member("kind", room.kind.rawValue)
    member("level_admin", room.levelAdmin)
    member("owner_user_id", room.ownerUser)
    if let team = room.properties.team { member("team_id", team) }
    if let peer = view.peer {
      key("peer")
      object {
        $0.member("id", peer.id)
        $0.member("name", peer.name)
      }
    }
    if let entity = room.ownerEntity {
      member("owner_entity_id", entity)
    } else {
      nullMember("owner_entity_id")
    }
    member("permissions", view.standing.permissions.letters)
    member("level", view.standing.level)
    member("default_permissions", room.properties.defaultPermissions.letters)
    member("people_count", view.peopleCount)
    member("last_seq", view.lastSeq)
    member("created_at", room.createdAt)
    if room.isByInvitation { member("invite", true) }
    if let seconds = room.properties.ttlSeconds { member("ttl_seconds", seconds) }
    if let days = room.properties.retentionDays { member("retention_days", days) }
  }

  package mutating func value(_ rule: RoomRule) {
    object {
      $0.member("entity_UUID", rule.subject)
      $0.member("permissions", rule.permissions.letters)
      $0.member("level", rule.level)
      $0.member("accepted", rule.isAccepted)
    }
  }
}

extension Fields {
  /// After how many days messages are deleted; `.some(nil)` for null, which means never, and nil if it is not given.
  fileprivate mutating func optionalRetention() -> Int64?? {
    guard has("retention_days") else { return nil }
    if case .null? = value("retention_days") { return .some(nil) }
    return .some(integer("retention_days", 1...36_500))
  }

  /// Letters of `rwa`, which people can have by a role or by default; nil if they are not given.
  package mutating func optionalLetters(_ name: String) -> Permissions? {
    has(name) ? letters(name) : nil
  }

  package mutating func letters(_ name: String) -> Permissions {
    guard let permissions = value(name)?.string.flatMap({ Permissions(letters: $0) }),
      !permissions.contains(.banned)
    else {
      fault(name, "must be letters of rwa, each at most once")
      return []
    }
    return permissions
  }
}

// MARK: Path parameters

extension RoomID: PathParameter {
  package init?(pathComponent: String) { self.init(pathComponent) }
  package static var notFound: ErrorCode { .roomNotFound }
}

/// The subject of a rule: a user, a team, an organization, or an id of another system.
private struct SubjectInPath: PathParameter {
  let id: UUID

  init?(pathComponent: String) {
    guard let id = UUID(pathComponent) else { return nil }
    self.id = id
  }

  static var notFound: ErrorCode { .ruleNotFound }
}
