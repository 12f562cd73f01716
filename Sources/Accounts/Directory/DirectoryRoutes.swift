internal import Access
internal import Basics
package import Web

/// The HTTP routes by which people find each other.
package struct DirectoryRoutes: Sendable {
  private let directory: PeopleDirectory

  private static let queryLength = 2...100
  private static let maximumIDs = 200

  package init(directory: PeopleDirectory) { self.directory = directory }

  package func add(to router: inout Router) {
    router.on(.get, "/v1/users", policy: .localUser) { try await list($0) }
    router.on(.get, "/v1/users/{id}", policy: .localUser) { (request, id: UserID) in
      guard
        let person = try await directory.people([id], for: request.caller).first
      else { throw AppError(.userNotFound) }
      return .data { $0.value(person) }
    }
  }

  private func list(_ request: AuthenticatedRequest) async throws -> Response {
    var fields = request.query.fields
    let page = PageRequest(&fields)
    let after = page.cursor.flatMap { UserID($0) }
    if page.cursor != nil, after == nil { fields.fault("cursor", "is not one of ours") }
    let user = request.caller.userID
    guard fields.has("ids") else {
      let query = fields.string("q", Self.queryLength)
      try fields.finish()
      let found = try await directory.find(query, for: user, after: after, limit: page.limit + 1)
      return .list(found, limit: page.limit) {
        $0.id.description
      } _: {
        $0.value($1)
      }
    }
    let ids = ids(&fields)
    if fields.has("q") { fields.fault("q", "cannot be given together with ids") }
    try fields.finish()
    let people = try await directory.people(ids, for: request.caller)
    return .list(people, limit: Self.maximumIDs) {
      $0.id.description
    } _: {
      $0.value($1)
    }
  }

  private func ids(_ fields: inout Fields) -> [UserID] {
    let texts = fields.value("ids")?.string?.split(separator: ",") ?? []
    var ids: [UserID] = []
    for text in texts {
      guard let id = UserID(String(text)) else {
        fields.fault("ids", "must be ids of people, separated by commas")
        return []
      }
      if !ids.contains(id) { ids.append(id) }
    }
    if texts.isEmpty || texts.count > Self.maximumIDs {
      fields.fault("ids", "must be 1 to \(Self.maximumIDs) ids of people")
    }
    return ids
  }
}

extension JSONWriter {
  fileprivate mutating func value(_ person: PeopleDirectory.Person) {
    object {
      $0.member("id", person.id)
      $0.member("name", person.name)
    }
  }
}
