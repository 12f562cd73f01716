internal import Access
internal import Accounts
internal import Basics
package import Web

/// The HTTP routes for reporting messages, and those of platform admins for reports, rooms and messages.
package struct ModerationRoutes: Sendable {
  private let reports: Reports
  private let moderation: Moderation
  private let rooms: Rooms
  private let audit: Audit

  private static let reasonLength = 1...500
  private static let queryLength = 1...100

  package init(reports: Reports, moderation: Moderation, rooms: Rooms, audit: Audit) {
    self.reports = reports
    self.moderation = moderation
    self.rooms = rooms
    self.audit = audit
  }

  package func add(to router: inout Router) {
    router.on(.post, "/v1/rooms/{id}/messages/{seq}/reports", policy: .room(.read)) {
      (request, id: RoomID, seq: SeqInPath) in try await report(request, id, seq.value)
    }
    router.on(.get, "/v1/admin/reports", policy: .platform) { try await list($0) }
    router.on(.patch, "/v1/admin/reports/{id}", policy: .platform) {
      (request, id: ReportInPath) in try await close(request, id.value)
    }
    router.on(.get, "/v1/admin/rooms", policy: .platform) { try await listRooms($0) }
    router.on(.delete, "/v1/admin/rooms/{id}", policy: .platform) { (request, id: RoomID) in
      try await moderation.deleteRoom(id, by: AuditActor(request))
      audit.record("delete_room", request, ["room_id": .init(id)])
      return .noContent
    }
    router.on(.put, "/v1/admin/rooms/{id}/manager", policy: .platform) { (request, id: RoomID) in
      try await setManager(request, id)
    }
    router.on(.delete, "/v1/admin/messages/{id}", policy: .platform) { (request, id: MessageID) in
      try await moderation.deleteMessage(id, by: AuditActor(request))
      audit.record("delete_message", request, ["message_id": .init(id)])
      return .noContent
    }
  }

  // MARK: Reports

  private func report(
    _ request: AuthenticatedRequest, _ id: RoomID, _ seq: Int64
  ) async throws -> Response {
    let reason = try await rooms.form(of: request, id, .read) { fields in
      let reason = fields.string("reason", Self.reasonLength)
      try fields.finish()
      return reason
    }
    try await reports.report(seq, in: id, reason: reason, by: request.caller)
    return .data(status: 202) { $0.object { $0.member("status", "reported") } }
  }

  private func list(_ request: AuthenticatedRequest) async throws -> Response {
    var fields = request.query.fields
    let status: ReportFilter = (fields.has("status") ? fields.word("status") : nil) ?? .open
    let page = PageRequest(&fields)
    let below = page.cursor.flatMap(positiveDecimal)
    if page.cursor != nil, below == nil { fields.fault("cursor", "is not one of ours") }
    try fields.finish()
    let found = try await reports.list(
      status.status, below: below ?? .max, limit: page.limit + 1, for: request.caller)
    return .list(found, limit: page.limit) {
      String($0.report.id)
    } _: {
      $0.value($1, for: request.caller.userID)
    }
  }

  private func close(_ request: AuthenticatedRequest, _ id: Int64) async throws -> Response {
    var fields = Fields(try await request.json())
    let _: ReportChange? = fields.word("status")
    try fields.finish()
    let view = try await reports.close(id, by: request.caller, AuditActor(request))
    audit.record("close_report", request, ["report_id": .string(String(id))])
    return .data { $0.value(view, for: request.caller.userID) }
  }

  // MARK: Rooms

  private func listRooms(_ request: AuthenticatedRequest) async throws -> Response {
    var fields = request.query.fields
    let query = fields.optionalString("q", Self.queryLength)
    let page = PageRequest(&fields)
    let below = page.cursor.flatMap { RoomID($0) }
    if page.cursor != nil, below == nil { fields.fault("cursor", "is not one of ours") }
    try fields.finish()
    let found = try await moderation.list(query, below: below ?? RoomID(.max), limit: page.limit)
    return .list(found, limit: page.limit) {
      $0.id.description
    } _: {
      $0.value($1)
    }
  }

  private func setManager(_ request: AuthenticatedRequest, _ id: RoomID) async throws -> Response {
    var fields = Fields(try await request.json())
    let user = fields.uuid("user_id")
    try fields.finish()
    guard let user else { throw AppError(.internalError) }
    try await moderation.setManager(UserID(user), of: id, by: AuditActor(request))
    audit.record("set_room_manager", request, ["room_id": .init(id), "user_id": .init(user)])
    return .data {
      $0.object {
        $0.member("room_id", id.value)
        $0.member("user_id", user)
      }
    }
  }
}

/// Which reports a list shows.
private enum ReportFilter: String, CaseIterable {
  case open, closed, all

  var status: Report.Status? {
    switch self {
    case .open: .open
    case .closed: .closed
    case .all: nil
    }
  }
}

/// What a report can be changed to.
private enum ReportChange: String, CaseIterable { case closed }

private struct ReportInPath: PathParameter {
  let value: Int64

  init?(pathComponent: String) {
    guard let value = positiveDecimal(pathComponent) else { return nil }
    self.value = value
  }

  static var notFound: ErrorCode { .reportNotFound }
}

extension JSONWriter {
  fileprivate mutating func value(_ view: Reports.View, for caller: UserID) {
    let report = view.report
    object {
      $0.member("id", report.id)
      $0.member("room_id", report.roomID.value)
      $0.member("seq", report.seq)
      $0.member("reporter_id", report.reporter)
      $0.member("reason", report.reason)
      $0.member("status", (report.closedAt == nil ? Report.Status.open : .closed).rawValue)
      $0.member("created_at", report.createdAt)
      if let closedAt = report.closedAt { $0.member("closed_at", closedAt) }
      if let closedBy = report.closedBy { $0.member("closed_by", closedBy) }
      if let message = view.message {
        $0.key("message")
        $0.value(message, for: caller)
      }
    }
  }

  fileprivate mutating func value(_ room: RoomSummary) {
    object {
      $0.member("id", room.id.value)
      $0.member("kind", room.kind.rawValue)
      $0.member("name", room.name)
      if let team = room.team { $0.member("team_id", team) }
      $0.member("owner_user_id", room.owner)
      $0.member("people_count", room.peopleCount)
      $0.member("message_count", room.messageCount)
      $0.member("last_activity_at", room.lastActivityAt)
      $0.member("created_at", room.createdAt)
    }
  }
}
