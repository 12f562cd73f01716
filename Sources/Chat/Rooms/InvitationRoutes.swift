internal import Access
package import Accounts
internal import Basics
package import Web

/// The HTTP routes of the invitations that wait for the caller: to teams, as a person of a room, and by rules of rooms.
package struct InvitationRoutes: Sendable {
  private let teams: Teams
  private let rooms: Rooms
  private let audit: Audit

  package init(teams: Teams, rooms: Rooms, audit: Audit) {
    self.teams = teams
    self.rooms = rooms
    self.audit = audit
  }

  package func add(to router: inout Router) {
    router.on(.get, "/v1/me/invitations", policy: .caller) { try await list($0) }
    router.on(.put, "/v1/me/invitations/{id}", policy: .localUser) {
      (request, invitation: InvitationInPath) in
      try await answer(request, invitation.id)
    }
  }

  /// The place of an invitation in the list, which begins with invitations to teams, then to rooms as a person, then by
  /// rules.
  fileprivate enum Place {
    case team(ListPlace)
    case person(RoomID)
    case rule(RoomID, UUID)

    /// Parses a cursor. Returns nil if it is malformed.
    init?(_ cursor: String) {
      let parts = cursor.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
      guard parts.count == 2 else { return nil }
      switch parts[0] {
      case "team":
        guard let place = ListPlace(String(parts[1])) else { return nil }
        self = .team(place)
      case "person":
        guard let room = RoomID(parts[1]) else { return nil }
        self = .person(room)
      default:
        guard let room = RoomID(parts[0]), let subject = UUID(parts[1]) else { return nil }
        self = .rule(room, subject)
      }
    }

    var cursor: String {
      switch self {
      case .team(let place): "team.\(place)"
      case .person(let room): "person.\(room)"
      case .rule(let room, let subject): "\(room).\(subject)"
      }
    }
  }

  fileprivate enum Found {
    case team(TeamInvitation)
    case person(Rooms.PersonInvitation)
    case rule(Rooms.Invitation)

    var place: Place {
      switch self {
      case .team(let invitation):
        .team(ListPlace(time: invitation.createdAt, id: invitation.id))
      case .person(let invitation): .person(invitation.room.id)
      case .rule(let invitation): .rule(invitation.room.id, invitation.rule.subject)
      }
    }
  }

  private func list(_ request: AuthenticatedRequest) async throws -> Response {
    var fields = request.query.fields
    let page = PageRequest(&fields)
    let place = page.cursor.flatMap { Place($0) }
    if page.cursor != nil, place == nil { fields.fault("cursor", "is not one of ours") }
    try fields.finish()
    let found = try await invitations(of: request, behind: place, limit: page.limit)
    return .list(found, limit: page.limit) {
      $0.place.cursor
    } _: {
      $0.value($1)
    }
  }

  /// Returns `limit` + 1 invitations if there are more than `limit`.
  private func invitations(
    of request: AuthenticatedRequest, behind place: Place?, limit: Int
  ) async throws -> [Found] {
    let caller = request.caller
    var found: [Found] = []
    var room = RoomID(0)
    var rule: (RoomID, UUID)?
    if case .rule(let id, let subject)? = place {
      rule = (id, subject)
    } else if caller.sessionID != nil {
      if case .person(let id)? = place {
        room = id
      } else {
        var behind: ListPlace?
        if case .team(let last)? = place { behind = last }
        found = try await teams.invitations(
          of: caller, behind: behind.map { ($0.time, $0.id) }, limit: limit + 1
        ).map { .team($0) }
      }
      if found.count <= limit {
        found += try await rooms.personInvitations(
          of: caller, after: room, limit: limit + 1 - found.count
        ).map { .person($0) }
      }
    }
    if found.count <= limit {
      found += try await rooms.invitations(
        of: caller, after: rule, limit: limit - found.count
      ).map { .rule($0) }
    }
    return found
  }

  private func answer(_ request: AuthenticatedRequest, _ id: UUID) async throws -> Response {
    var fields = Fields(try await request.json())
    let isAccepted = fields.bool("accepted")
    try fields.finish()
    let caller = request.caller
    if let invitation = try await teams.answer(id, isAccepted: isAccepted, by: caller) {
      record(request, id, isAccepted)
      return .data { writer in
        writer.object {
          $0.member("id", id)
          $0.member("team_id", invitation.team)
          $0.member("name", invitation.teamName)
          $0.member("accepted", isAccepted)
        }
      }
    }
    guard
      let room = try await rooms.answerPersonInvitation(id, isAccepted: isAccepted, by: caller)
    else { throw AppError(.invitationNotFound) }
    record(request, id, isAccepted)
    return .data { writer in
      writer.object {
        $0.member("id", id)
        $0.member("room_id", room.id.value)
        $0.member("name", room.name)
        $0.member("accepted", isAccepted)
      }
    }
  }

  private func record(_ request: AuthenticatedRequest, _ id: UUID, _ isAccepted: Bool) {
    audit.record(
      "answer_invitation", request,
      ["invitation_id": .init(id), "accepted": .string(isAccepted ? "true" : "false")])
  }
}

extension JSONWriter {
  fileprivate mutating func value(_ found: InvitationRoutes.Found) {
    object {
      switch found {
      case .team(let invitation):
        $0.member("id", invitation.id)
        $0.member("team_id", invitation.team)
        $0.member("name", invitation.teamName)
        $0.member("for", "user")
        $0.member("invited_by", invitation.invitedBy)
        $0.member("created_at", invitation.createdAt)
      case .person(let invitation):
        $0.member("id", invitation.id)
        $0.room(invitation.room)
        $0.member("for", "user")
        $0.member("permissions", invitation.permissions.letters)
      case .rule(let invitation):
        $0.room(invitation.room)
        $0.member("for", invitation.isForUser ? "user" : "entity")
        $0.member("permissions", invitation.rule.permissions.letters)
      }
    }
  }

  private mutating func room(_ room: Room) {
    member("room_id", room.id.value)
    member("name", room.name)
    member("type", room.type.rawValue)
  }
}

private struct InvitationInPath: PathParameter {
  let id: UUID

  init?(pathComponent: String) {
    guard let id = UUID(pathComponent) else { return nil }
    self.id = id
  }

  static var notFound: ErrorCode { .invitationNotFound }
}
