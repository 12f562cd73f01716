internal import Basics
package import Database
internal import EventLoop
internal import Foundation

/// The databases that every contract of a store is tested on.
package enum DatabaseKind: String, CaseIterable, Sendable { case sqlite, postgres }

/// A real, empty database of a test's own.
package struct TestDatabase: Sendable {
  private let kind: DatabaseKind
  /// SQLite's file, or Postgres' URL.
  package let place: String
  private static let loops = [Loop(index: 0), Loop(index: 1)]
  /// Where SQLite's files are. Removed when the run ends.
  private static let folder: String = {
    let path = FileManager.default.temporaryDirectory.path + "/martlet-test-\(UUID.version7())"
    do {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    } catch { fatalError("no folder for databases: \(error)") }
    // If it cannot be removed, it stays in the system's folder of temporary files.
    atexit { try? FileManager.default.removeItem(atPath: TestDatabase.folder) }
    return path
  }()

  package init(_ kind: DatabaseKind) throws {
    self.kind = kind
    place =
      switch kind {
      case .sqlite: "\(Self.folder)/\(UUID.version7()).db"
      case .postgres: try TestPostgres.shared.get().makeDatabase()
      }
  }

  /// Opens it, and brings it up to date. Close what this returns.
  package func open(_ migrations: [Migration]) throws -> any SQLDatabase {
    switch kind {
    case .sqlite:
      try SQLiteDatabase(
        path: place, migrations: migrations, readers: 2,
        disk: DiskReserve(path: "/tmp", reserve: 0),
        metrics: DatabaseMetrics(Metrics()), log: .none)
    case .postgres:
      try PostgresDatabase(
        url: Secret(place), migrations: migrations, connections: 6, loops: Self.loops,
        metrics: DatabaseMetrics(Metrics()), log: .none)
    }
  }

  /// Opens what is derived from the database: with SQLite a file beside it; with Postgres it is the same database. Close
  /// what this returns, but for Postgres.
  package func openDerived(
    _ migrations: [Migration], from database: any SQLDatabase
  ) throws -> any SQLDatabase {
    switch kind {
    case .sqlite:
      try SQLiteDatabase(
        path: place + ".derived", .derived(from: place), migrations: migrations, readers: 2,
        disk: DiskReserve(path: "/tmp", reserve: 0),
        metrics: DatabaseMetrics(Metrics()), log: .none)
    case .postgres: database
    }
  }

  /// Makes SQLite's file something that is no database.
  package func spoil() throws {
    try Data(repeating: 7, count: 9000).write(to: URL(fileURLWithPath: place))
  }

  /// The same with what is derived from the database.
  package static func with<Result>(
    _ kind: DatabaseKind, _ migrations: [Migration], derived: [Migration],
    _ body: (_ database: any SQLDatabase, _ derived: any SQLDatabase) async throws -> Result
  ) async throws -> Result {
    let files = try TestDatabase(kind)
    let database = try files.open(migrations)
    let other = try files.openDerived(derived, from: database)
    let outcome: Swift.Result<Result, any Error>
    do { outcome = .success(try await body(database, other)) } catch { outcome = .failure(error) }
    if kind == .sqlite { await other.close() }
    await database.close()
    return try outcome.get()
  }

  package static func with<Result>(
    _ kind: DatabaseKind, _ migrations: [Migration],
    _ body: (any SQLDatabase) async throws -> Result
  ) async throws -> Result {
    let database = try TestDatabase(kind).open(migrations)
    do {
      let result = try await body(database)
      await database.close()
      return result
    } catch {
      await database.close()
      throw error
    }
  }
}

/// A real Postgres on loopback for the whole run, by the same script that the acceptance tests use.
private enum TestPostgres {
  static let shared = Result { try TestScript("postgres.py") }
}

extension TestScript {
  /// The URL of a new, empty database.
  fileprivate func makeDatabase() throws -> String {
    String(decoding: try ask(Data("database".utf8)), as: UTF8.self)
  }
}
