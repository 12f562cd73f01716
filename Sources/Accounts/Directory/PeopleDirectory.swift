package import Access
package import Basics
package import Database
internal import Words

/// Finds people in somebody's circle.
package struct PeopleDirectory: Sendable {
  private let database: any SQLDatabase
  private let circle: Circle

  /// How many names are read and compared at a time.
  private static let namesPerRead = 1000

  package init(database: any SQLDatabase, circle: Circle) {
    self.database = database
    self.circle = circle
  }

  /// An account, as others see it.
  package struct Person: Sendable {
    package let id: UserID
    package let name: String
  }

  /// Returns those of these people who are in the caller's circle, in the order in which they were asked for; and deleted
  /// users if the caller can still read something of theirs.
  package func people(_ ids: [UserID], for caller: Caller) async throws -> [Person] {
    let (known, erased) = try await database.read { transaction in
      let known = try await self.circle.members(among: ids, of: caller.userID, in: transaction)
      let others = ids.filter { !known.contains($0) }
      return (known, try await People.erased(among: others, in: transaction))
    }
    let read = erased.isEmpty ? [] : try await circle.haveBeen(Array(erased), readableBy: caller)
    return try await database.read { transaction in
      let names = try await People.names(of: Array(known.union(read)), in: transaction)
      return ids.compactMap { id in names[id].map { Person(id: id, name: $0) } }
    }
  }

  /// Returns people in the circle of a user whose name matches, or whose whole e-mail address is the query; in the order
  /// of their ids, behind `after`, at most `limit`. In a name that matches, each word of the query is a word, and the last one at
  /// least the beginning of one.
  package func find(
    _ query: String, for user: UserID, after: UserID?, limit: Int
  ) async throws -> [Person] {
    let pattern = SearchPattern(query)
    let email = AccountStore.key(query)
    return try await database.read { transaction in
      var ids = try await self.circle.everyone(of: user, in: transaction)?
        .sorted { $0.uuid < $1.uuid }[...]
      if let after { ids = ids?.drop { $0.uuid <= after.uuid } }
      var found: [Person] = []
      var last = after
      while found.count < limit {
        let part = ids?.prefix(Self.namesPerRead)
        ids = ids?.dropFirst(Self.namesPerRead)
        let accounts = try await AccountStore.accounts(
          part.map { Array($0) }, after: last, limit: Self.namesPerRead, in: transaction)
        for account in accounts where found.count < limit {
          let isFound =
            account.emailKey == email
            || pattern.map { $0.matches(SearchWords.split(account.name)) } ?? false
          if isFound { found.append(Person(id: account.id, name: account.name)) }
        }
        if let ids { if ids.isEmpty { break } } else if accounts.count < Self.namesPerRead { break }
        last = accounts.last?.id ?? last
      }
      return found
    }
  }
}
