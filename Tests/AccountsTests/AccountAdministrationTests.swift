import Access
import Basics
import Database
import Events
import Synchronization
import TestSupport
import Testing

@testable import Accounts

/// The operator's commands for accounts, on every database.
@Suite struct AccountAdministrationTests {
  private func with(
    _ kind: DatabaseKind,
    _ body:
      @escaping @Sendable (AccountAdministration, any SQLDatabase, EventStream) async throws -> Void
  ) async throws {
    try await TestDatabase.with(kind, AccountSchema.migrations) { database in
      let events = EventStream(fanout: InProcessFanout())
      let accounts = AccountAdministration(
        database: database, events: events,
        memberships: MembershipDirectory(database: database, events: events))
      try await body(accounts, database, events)
    }
  }

  private func list(_ accounts: AccountAdministration, all: Bool) async throws -> [String] {
    let lines = Mutex<[String]>([])
    try await accounts.forEach(all: all) { user, _ in
      lines.withLock {
        $0.append(
          user.email + (user.isPlatformAdmin ? " admin" : "")
            + (user.isSuspended ? " suspended" : ""))
      }
    }
    return lines.withLock(\.self)
  }

  @Test(arguments: DatabaseKind.allCases)
  func `an account is made once, granted, revoked, suspended and restored`(kind: DatabaseKind)
    async throws
  {
    try await with(kind) { accounts, _, _ in
      let password = try await accounts.createPlatformAdmin(email: "Ada@b", name: "Ada")
      #expect(password?.reveal().count == 20)
      #expect(try await accounts.createPlatformAdmin(email: "ada@B", name: "Ada") == nil)
      #expect(try await list(accounts, all: false) == ["Ada@b admin"])
      #expect(try await accounts.setPlatformAdmin(false, email: "ADA@b"))
      #expect(try await list(accounts, all: false) == [])
      #expect(try await list(accounts, all: true) == ["Ada@b"])
      #expect(try await accounts.setSuspended(true, .email("ada@b"), by: .commandLine) != nil)
      #expect(try await list(accounts, all: false) == ["Ada@b suspended"])
      #expect(try await accounts.setSuspended(false, .email("ada@b"), by: .commandLine) != nil)
      #expect(try await accounts.setPlatformAdmin(true, email: "ada@b"))
      #expect(try await list(accounts, all: false) == ["Ada@b admin"])
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `an address that nobody has changes nothing`(kind: DatabaseKind) async throws {
    try await with(kind) { accounts, _, _ in
      let found = [
        try await accounts.setPlatformAdmin(true, email: "no@b"),
        try await accounts.setSuspended(true, .email("no@b"), by: .commandLine) != nil,
        try await accounts.setSuspended(false, .email("no@b"), by: .commandLine) != nil,
      ]
      #expect(found == [false, false, false])
      let password = try await accounts.resetPassword(email: "no@b")
      #expect(password == nil)
      #expect(try await list(accounts, all: true) == [])
    }
  }

  @Test(arguments: [
    "", "a", "@", "a@", "@b", "a@b@c", "a b@c", "a\u{7}@b",
    String(repeating: "a", count: 254) + "@b",
  ])
  func `an account is not made for what is no address`(email: String) async throws {
    try await with(.sqlite) { accounts, _, _ in
      await #expect(throws: AppError.self) {
        try await accounts.createPlatformAdmin(email: email, name: "n")
      }
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `suspending ends all sessions and says so`(kind: DatabaseKind) async throws {
    try await with(kind) { accounts, database, events in
      _ = try await accounts.createPlatformAdmin(email: "a@b", name: "Ada")
      let ended = Mutex<Set<SessionID>>([])
      events.listen { events in
        for case .access(.sessionEnded(let id)) in events { ended.withLock { _ = $0.insert(id) } }
      }
      let sessions = [SessionID.make(), SessionID.make()]
      let client = ClientDescription(ip: "203.0.113.1", userAgent: "a", data: "{}")
      try await database.write { transaction in
        let user = try #require(try await AccountStore.user(email: "a@b", in: transaction)).user
        for session in sessions {
          try await AccountStore.insert(session, of: user.id, client, at: .now, in: transaction)
        }
      }
      #expect(try await accounts.setSuspended(true, .email("a@b"), by: .commandLine) != nil)
      #expect(ended.withLock(\.self) == Set(sessions))
      try await database.read { transaction in
        let first = try await AccountStore.session(sessions[0], in: transaction)
        #expect(first == nil)
      }
    }
  }

  @Test func `long lists come whole`() async throws {
    try await with(.sqlite) { accounts, database, _ in
      let count = 1201
      try await database.write { transaction in
        for number in 0..<count {
          let user = User(id: .make(), email: "\(number)@b", name: "n", isPlatformAdmin: false)
          _ = try await AccountStore.insert(user, passwordHash: "h", at: .now, in: transaction)
        }
      }
      let listed = try await list(accounts, all: true)
      #expect(listed.count == count && Set(listed) == Set((0..<count).map { "\($0)@b" }))
    }
  }
}
