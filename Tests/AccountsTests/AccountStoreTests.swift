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
        #expect(
          Set(try await AccountChanges.allEndedSessions(in: transaction)) == Set(sessions[..<2]))
      }
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `ids are found whose they are, and whether all are version 7`(
    kind: DatabaseKind
  ) async throws {
    try await TestDatabase.with(kind, AccountSchema.migrations) { database in
      let ada = user("a@b")
      let (organization, team) = (UUID.version7(), UUID.version7())
      try await database.write { transaction in
        _ = try await AccountStore.insert(ada, passwordHash: "h", at: now, in: transaction)
        try await transaction.execute(
          "INSERT INTO organizations (id, name, created_at) VALUES ($1, 'n', 1)",
          [.uuid(organization)])
        try await transaction.execute(
          "INSERT INTO teams (id, created_at, deleted_at) VALUES ($1, 1, 2)", [.uuid(team)])
      }
      func read(_ questions: [[UUID]]) async throws -> NameCheck.Reading {
        try await database.read { try await AffiliationStore.readTaken(questions, in: $0) }
      }
      let stranger = UUID.version7()
      let reading = try await read([
        [stranger], [ada.id.uuid], [stranger, organization], [], [team, stranger], [.zero],
      ])
      #expect(reading.answers == [false, true, true, false, true, false])
      #expect(reading.areAllVersion7)
      // The other versions, one at a time, in each of the tables.
      let inserts: [SQL] = [
        "INSERT INTO organizations (id, name, created_at) VALUES ($1, 'n', 1)",
        "INSERT INTO teams (id, created_at, deleted_at) VALUES ($1, 1, 2)",
        """
        INSERT INTO users (
          id, email, email_key, name, password_hash, is_platform_admin, settings, created_at)
        VALUES ($1, 'x', 'x', 'n', 'h', 0, '{}', 1)
        """,
      ]
      let deletes: [SQL] = [
        "DELETE FROM organizations WHERE id = $1", "DELETE FROM teams WHERE id = $1",
        "DELETE FROM users WHERE id = $1",
      ]
      for (insert, delete) in zip(inserts, deletes) {
        for version: UInt64 in [0x6FFF, 0x8000] {
          let odd = UUID(high: version, low: stranger.low)
          _ = try await database.write { try await $0.execute(insert, [.uuid(odd)]) }
          let reading = try await read([[odd]])
          #expect(reading.answers == [true] && !reading.areAllVersion7 && !odd.isVersion7)
          _ = try await database.write { try await $0.execute(delete, [.uuid(odd)]) }
        }
      }
      let last = try await read([])
      #expect(last.areAllVersion7)
    }
  }

  @Test func `whether all are version 7 costs Postgres no look through the accounts`() async throws
  {
    try await TestDatabase.with(.postgres, AccountSchema.migrations) { database in
      let plan = try await database.write { transaction in
        try await transaction.execute(
          """
          INSERT INTO users (
            id, email, email_key, name, password_hash, is_platform_admin, settings, created_at)
          SELECT substr(sha256(n::text::bytea), 1, 6) || '\\x70'::bytea
            || substr(sha256(n::text::bytea), 8, 9), n, n, 'n', 'h', 0, '{}', 1
          FROM generate_series(1, 50000) AS n
          """)
        try await transaction.execute("ANALYZE users")
        let reading = try await AffiliationStore.readTaken([], in: transaction)
        #expect(reading.areAllVersion7)
        // The same query as above, word for word.
        try await transaction.execute(
          """
          CREATE FUNCTION pg_temp.plan() RETURNS SETOF text LANGUAGE plpgsql AS $$
            BEGIN
              RETURN QUERY EXECUTE (SELECT 'EXPLAIN ' || statement FROM pg_prepared_statements
                WHERE statement LIKE 'SELECT 1 WHERE (%FROM users%');
            END $$
          """)
        let rows = try await transaction.pipeline([Statement("SELECT * FROM pg_temp.plan()")])
        return try rows[0].rows.map { try $0.text(0) }
      }
      #expect(plan.contains { $0.contains("users_not_version_7") })
      #expect(!plan.contains { $0.contains("Seq Scan on users") })
    }
  }
}
