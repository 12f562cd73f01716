internal import Access
internal import Basics
package import Web
internal import Words

/// The HTTP route of the search.
package struct SearchRoutes: Sendable {
  private let search: Search
  private let rooms: Rooms

  private static let queryLength = 2...200

  package init(search: Search, rooms: Rooms) {
    self.search = search
    self.rooms = rooms
  }

  package func add(to router: inout Router) {
    router.on(.get, "/v1/search", policy: .caller) { try await find($0) }
  }

  private func find(_ request: AuthenticatedRequest) async throws -> Response {
    var fields = request.query.fields
    let page = PageRequest(&fields)
    let query = fields.string("q", Self.queryLength)
    let pattern = SearchPattern(query)
    if pattern == nil, Self.queryLength.contains(query.count) {
      fields.fault("q", "has no word")
    }
    // What is not the id of any room is not known, like the id of a room of others.
    let room = fields.has("room_id") ? fields.value("room_id")?.string.map { RoomID($0) } : nil
    let author = fields.has("from") ? fields.uuid("from").map { UserID($0) } : nil
    let (since, until) = (fields.optionalTime("since"), fields.optionalTime("until"))
    let behind = page.cursor.flatMap(positiveDecimal)
    if page.cursor != nil, behind == nil { fields.fault("cursor", "is not one of ours") }
    try fields.finish()
    guard let pattern else { throw AppError(.validationFailed) }
    if case .some(nil) = room { throw AppError(.roomNotFound) }
    let found = try await search.messages(
      for: request.caller,
      Search.Selection(
        pattern: pattern, room: room ?? nil, author: author, since: since, until: until,
        behind: behind, limit: page.limit))
    return .list(found.hits, limit: page.limit, hasMore: found.hasMore) {
      String($0.place)
    } _: { writer, hit in
      writer.object {
        $0.key("message")
        $0.value(hit.message, for: request.caller.userID)
        $0.member("snippet", hit.snippet)
      }
    }
  }
}
