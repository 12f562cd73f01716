import Basics
import Database
import TestSupport
import Testing

@testable import Accounts

/// The SQL of accounts and sessions, on every database.
@Suite struct AccountStoreTests {
  private let now = Timestamp(milliseconds: 1_000_000)

  private func user(_ email: String) -> User {
    User(id: .make(), email: email, name: "n", isPlatformAdmin: false)
  }

  private let client = ClientDescription(ip: "203.0.113.1", userAgent: "a", data: "{}")

  @Test(arguments: DatabaseKind.allCases)
  func `an address is taken in any case, and found in any case`(kind: DatabaseKind) async throws {
    try await TestDatabase.with(kind, AccountSchema.migrations) { database in
      let (ada, twin) = (user("Ada@Example.org"), user("ada@eXample.ORG"))
      try await database.write { transaction in
        #expect(
          try await AccountStore.insert(ada, passwordHash: "h", at: now, in: transaction))
        #expect(
          try await !AccountStore.insert(twin, passwordHash: "h", at: now, in: transaction))
        let found = try await AccountStore.user(email: "ADA@EXAMPLE.ORG", in: transaction)
        #expect(found?.user.id == ada.id && found?.passwordHash == "h")
        #expect(try await AccountStore.user(email: "bob@example.org", in: transaction) == nil)
      }
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `a refresh count moves on once`(kind: DatabaseKind) async throws {
    try await TestDatabase.with(kind, AccountSchema.migrations) { database in
      let ada = user("a@b")
      let session = SessionID.make()
      try await database.write { transaction in
        _ = try await AccountStore.insert(ada, passwordHash: "h", at: now, in: transaction)
        try await AccountStore.insert(session, of: ada.id, client, at: now, in: transaction)
      }
      let outcomes = await withTaskGroup(of: Bool?.self) { group in
        for _ in 0..<8 {
          group.addTask {
            try? await database.write {
              try await AccountStore.countRefresh(session, from: 0, at: now, in: $0)
            }
          }
        }
        return await group.reduce(into: []) { $0.append($1) }
      }
      #expect(outcomes.filter { $0 == true }.count == 1)
      #expect(outcomes.filter { $0 == false }.count == 7)
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `when a session was used is written at most once a minute`(
    kind: DatabaseKind
  ) async throws {
    try await TestDatabase.with(kind, AccountSchema.migrations) { database in
      let ada = user("a@b")
      let session = SessionID.make()
      try await database.write { transaction in
        _ = try await AccountStore.insert(ada, passwordHash: "h", at: now, in: transaction)
        try await AccountStore.insert(session, of: ada.id, client, at: now, in: transaction)
      }
      for (seconds, expected) in [(59, 0), (60, 60), (61, 60), (119, 60), (120, 120), (90, 120)] {
        let used = now.adding(milliseconds: Int64(seconds) * 1000)
        let seen = try await database.write { transaction in
          _ = try await transaction.pipeline([AccountStore.touch(session, at: used)])
          return try await AccountStore.sessions(
            of: ada.id, behind: nil, limit: 1, in: transaction
          ).first?.lastSeenAt
        }
        #expect(seen == now.adding(milliseconds: Int64(expected) * 1000))
      }
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `ended sessions are listed, and are not sessions any more`(kind: DatabaseKind) async throws {
    try await TestDatabase.with(kind, AccountSchema.migrations) { database in
      let ada = user("a@b")
      let sessions = (0..<3).map { _ in SessionID.make() }
      try await database.write { transaction in
        _ = try await AccountStore.insert(ada, passwordHash: "h", at: now, in: transaction)
        for session in sessions {
          try await AccountStore.insert(session, of: ada.id, client, at: now, in: transaction)
        }
        #expect(try await AccountStore.end(sessions[0], of: ada.id, at: now, in: transaction))
        #expect(try await !AccountStore.end(sessions[0], of: ada.id, at: now, in: transaction))
        #expect(try await !AccountStore.end(sessions[1], of: .make(), at: now, in: transaction))
        let ended = try await AccountStore.endAll(
          of: ada.id, but: sessions[2], at: now.adding(milliseconds: 5), in: transaction)
        #expect(ended == [sessions[1]])
        #expect(try await AccountStore.session(sessions[0], in: transaction) == nil)
        #expect(
          try await AccountStore.sessions(
            of: ada.id, behind: nil, limit: 9, in: transaction
          ).map(\.id) == [sessions[2]])
        #expect(Set(try await AccountChanges.allEnded(in: transaction)) == Set(sessions[..<2]))
      }
    }
  }
}
