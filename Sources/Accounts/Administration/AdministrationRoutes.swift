internal import Access
internal import Basics
package import Web

/// The HTTP routes with which platform admins look after accounts and read what was done.
package struct AdministrationRoutes: Sendable {
  private let accounts: AccountAdministration
  private let erasure: AccountErasure
  private let trail: AuditTrail
  private let audit: Audit

  private static let queryLength = 1...100
  private static let reasonLength = 1...500

  package init(
    accounts: AccountAdministration, erasure: AccountErasure, trail: AuditTrail, audit: Audit
  ) {
    self.accounts = accounts
    self.erasure = erasure
    self.trail = trail
    self.audit = audit
  }

  package func add(to router: inout Router) {
    router.on(.get, "/v1/admin/users", policy: .platform) { try await users($0) }
    router.on(.put, "/v1/admin/users/{id}/suspension", policy: .platform) {
      (request, id: UserID) in try await suspend(request, id)
    }
    router.on(.delete, "/v1/admin/users/{id}", policy: .platform, body: .json) {
      (request, id: UserID) in try await erase(request, id)
    }
    router.on(.get, "/v1/admin/audit", policy: .platform) { try await records($0) }
  }

  private func users(_ request: AuthenticatedRequest) async throws -> Response {
    var fields = request.query.fields
    let query = fields.optionalString("q", Self.queryLength)
    let page = PageRequest(&fields)
    let place = page.cursor.flatMap { ListPlace($0) }
    if page.cursor != nil, place == nil { fields.fault("cursor", "is not one of ours") }
    try fields.finish()
    let found = try await accounts.list(
      query, behind: place.map { ($0.time, UserID($0.id)) }, limit: page.limit)
    return .list(found, limit: page.limit) {
      ListPlace(time: $0.createdAt, id: $0.user.id.uuid).description
    } _: {
      $0.value($1)
    }
  }

  private func suspend(_ request: AuthenticatedRequest, _ id: UserID) async throws -> Response {
    var fields = Fields(try await request.json())
    let isSuspended = fields.bool("is_suspended")
    let reason = fields.optionalString("reason", Self.reasonLength)
    if reason != nil, !isSuspended { fields.fault("reason", "is for a suspension") }
    try fields.finish()
    guard id != request.caller.userID else {
      throw AppError(.forbidden, "Nobody suspends their own account.")
    }
    let account = try await accounts.setSuspended(
      isSuspended, reason: reason, .id(id), by: AuditActor(request))
    guard let account else { throw AppError(.userNotFound) }
    audit.record(isSuspended ? "suspend" : "restore", request, ["user_id": .init(id)])
    return .data { $0.value(account) }
  }

  private func erase(_ request: AuthenticatedRequest, _ id: UserID) async throws -> Response {
    var fields = Fields(try await request.json(mayBeAbsent: true))
    let messages: MessagesOfErased? = fields.has("messages") ? fields.word("messages") : .keep
    try fields.finish()
    try await erasure.erase(id, messages: messages ?? .keep, by: AuditActor(request))
    audit.record("erase_account", request, ["user_id": .init(id)])
    return .noContent
  }

  private func records(_ request: AuthenticatedRequest) async throws -> Response {
    var fields = request.query.fields
    var filter = AuditTrail.Filter()
    if fields.has("actor_id") { filter.actor = fields.uuid("actor_id").map { UserID($0) } }
    if fields.has("action") { filter.action = fields.word("action") }
    if fields.has("target_type") { filter.targetType = fields.word("target_type") }
    filter.targetID = fields.optionalString("target_id", 1...64)
    let page = PageRequest(&fields)
    let below = page.cursor.flatMap(positiveDecimal)
    if page.cursor != nil, below == nil { fields.fault("cursor", "is not one of ours") }
    try fields.finish()
    let found = try await trail.list(filter, below: below ?? .max, limit: page.limit + 1)
    return .list(found, limit: page.limit) {
      String($0.id)
    } _: {
      $0.value($1)
    }
  }
}

extension JSONWriter {
  /// What administrators and the person see of an account.
  mutating func members(of account: AccountSummary) {
    member("id", account.user.id)
    member("email", account.user.email)
    member("name", account.user.name)
    member("platform_admin", account.user.isPlatformAdmin)
    member("created_at", account.createdAt)
    if let seen = account.lastSeenAt { member("last_seen_at", seen) }
  }

  fileprivate mutating func value(_ account: AccountSummary) {
    object {
      $0.members(of: account)
      $0.member("is_suspended", account.suspendedAt != nil)
      if let time = account.suspendedAt { $0.member("suspended_at", time) }
      if let reason = account.suspensionReason { $0.member("suspension_reason", reason) }
    }
  }

  fileprivate mutating func value(_ record: AuditTrail.Record) {
    object {
      $0.member("id", record.id)
      $0.member("actor_id", record.actorID)
      $0.member("actor_name", record.actorName)
      $0.member("action", record.action)
      $0.member("target_type", record.targetType)
      $0.member("target_id", record.targetID)
      $0.member("ip", record.ip)
      $0.member("request_id", record.requestID)
      $0.member("created_at", record.createdAt)
    }
  }
}
