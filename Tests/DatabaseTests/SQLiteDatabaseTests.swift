import Basics
import EventLoop
import Synchronization
import Testing

@testable import Database

@Suite struct SQLiteDatabaseTests {
  private static let migrations = [
    Migration(
      feature: "test", number: 1,
      "CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT UNIQUE, data BLOB) STRICT")
  ]

  private func open(
    _ path: String, migrations: [Migration] = migrations
  ) throws -> SQLiteDatabase {
    try SQLiteDatabase(
      path: path, migrations: migrations, readers: 2, disk: DiskReserve(path: "/tmp", reserve: 0),
      metrics: DatabaseMetrics(Metrics()), log: .none)
  }

  private func temporaryPath() -> String { "/tmp/martlet-test-\(UUID.version7()).db" }

  @Test func `values come back as they went in`() async throws {
    let database = try open(temporaryPath())
    try await database.write { transaction in
      try await transaction.execute(
        // The second value is named before the first: SQLite must not bind by position.
        "INSERT INTO things (name, id, data) VALUES ($2, $1, $3)",
        [.integer(.max), .text(""), .blob([])])
    }
    let row = try await database.read {
      try await $0.first("SELECT id, name, data, NULL FROM things")
    }
    #expect(try row?.integer(0) == .max && row?.text(1) == "" && row?.blob(2) == [])
    #expect(row?.isNull(3) == true)
    await database.close()
  }

  @Test func `a body that throws leaves nothing, and the others of its commit stay`() async throws {
    struct Stop: Error {}
    let database = try open(temporaryPath())
    let hooks = Hooks()
    let writes = (0..<20).map { number in
      Task {
        try await database.write { transaction in
          transaction.afterCommit { hooks.add(number) }
          try await transaction.execute(
            "INSERT INTO things (id, name) VALUES ($1, $2)",
            [.integer(Int64(number)), .text("n\(number)")])
          if number % 2 == 1 { throw Stop() }
        }
      }
    }
    for (number, write) in writes.enumerated() {
      if number % 2 == 1 {
        await #expect(throws: Stop.self) { try await write.value }
      } else {
        try await write.value
      }
    }
    let ids = try await database.read {
      try await $0.query("SELECT id FROM things ORDER BY id").map { try $0.integer(0) }
    }
    #expect(ids == stride(from: 0, to: 20, by: 2).map { Int64($0) })
    #expect(hooks.sorted == stride(from: 0, to: 20, by: 2).map { $0 })
    await database.close()
  }

  @Test func `a broken constraint fails its own transaction only`() async throws {
    let database = try open(temporaryPath())
    try await database.write { try await $0.execute("INSERT INTO things (name) VALUES ('a')") }
    await #expect(throws: DatabaseError.self) {
      try await database.write { try await $0.execute("INSERT INTO things (name) VALUES ('a')") }
    }
    try await database.write { try await $0.execute("INSERT INTO things (name) VALUES ('b')") }
    let count = try await database.read {
      try await $0.first("SELECT count(*) FROM things")?.integer(0)
    }
    #expect(count == 2)
    await database.close()
  }

  @Test func `a reader's snapshot cannot be written through`() async throws {
    let database = try open(temporaryPath())
    await #expect(throws: (any Error).self) {
      try await database.read { _ = try await $0.execute("INSERT INTO things (name) VALUES ('x')") }
    }
    await database.close()
  }

  @Test func `a newer or edited schema refuses to start`() async throws {
    let path = temporaryPath()
    await (try open(path)).close()
    await (try open(path)).close()
    #expect(throws: MigrationError.self) { try open(path, migrations: []) }
    let edited = [Migration(feature: "test", number: 1, "CREATE TABLE others (id INTEGER)")]
    #expect(throws: MigrationError.self) { try open(path, migrations: edited) }
    let broken =
      Self.migrations + [
        Migration(feature: "test", number: 2, "CREATE TABLE a (id INTEGER); NONSENSE")
      ]
    #expect(throws: DatabaseError.self) { try open(path, migrations: broken) }
    let whole =
      Self.migrations + [Migration(feature: "test", number: 2, "CREATE TABLE a (id INTEGER)")]
    await (try open(path, migrations: whole)).close()
  }

  private final class Hooks: Sendable {
    private let numbers = Mutex<[Int]>([])
    func add(_ number: Int) { numbers.withLock { $0.append(number) } }
    var sorted: [Int] { numbers.withLock { $0.sorted() } }
  }
}
