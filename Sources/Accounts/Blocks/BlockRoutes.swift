internal import Access
internal import Basics
package import Web

/// The HTTP routes of whom the caller blocks.
package struct BlockRoutes: Sendable {
  private let blocks: Blocks
  private let audit: Audit

  package init(blocks: Blocks, audit: Audit) {
    self.blocks = blocks
    self.audit = audit
  }

  package func add(to router: inout Router) {
    router.on(.get, "/v1/me/blocks", policy: .localUser) { try await list($0) }
    router.on(.put, "/v1/me/blocks/{id}", policy: .localUser, body: .empty) {
      (request, id: UserID) in
      let blocked = try await blocks.block(id, for: request.caller.userID)
      audit.record("block", request, ["user_id": .init(id)])
      return .data { $0.value(blocked) }
    }
    router.on(.delete, "/v1/me/blocks/{id}", policy: .localUser) { (request, id: UserID) in
      try await blocks.unblock(id, for: request.caller.userID)
      audit.record("unblock", request, ["user_id": .init(id)])
      return .noContent
    }
  }

  private func list(_ request: AuthenticatedRequest) async throws -> Response {
    var fields = request.query.fields
    let page = PageRequest(&fields)
    let after = page.cursor.flatMap { UserID($0) }
    if page.cursor != nil, after == nil { fields.fault("cursor", "is not one of ours") }
    try fields.finish()
    let blocked = try await blocks.list(
      of: request.caller.userID, after: after, limit: page.limit + 1)
    return .list(blocked, limit: page.limit) {
      $0.id.description
    } _: {
      $0.value($1)
    }
  }
}

extension JSONWriter {
  fileprivate mutating func value(_ blocked: Blocks.Blocked) {
    object {
      $0.member("user_id", blocked.id)
      $0.member("name", blocked.name)
      $0.member("created_at", blocked.createdAt)
    }
  }
}
