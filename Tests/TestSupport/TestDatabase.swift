internal import Basics
package import Database
internal import EventLoop
internal import Foundation
internal import Synchronization

/// The databases that every contract of a store is tested on.
package enum DatabaseKind: String, CaseIterable, Sendable { case sqlite, postgres }

/// A real, empty database of a test's own.
package struct TestDatabase: Sendable {
  private let kind: DatabaseKind
  /// SQLite's file, or Postgres' URL.
  package let place: String
  private static let loops = [Loop(index: 0), Loop(index: 1)]

  package init(_ kind: DatabaseKind) throws {
    self.kind = kind
    place =
      switch kind {
      case .sqlite: "/tmp/martlet-test-\(UUID.version7()).db"
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

  /// Makes SQLite's file something that is no database.
  package func spoil() throws {
    try Data(repeating: 7, count: 9000).write(to: URL(fileURLWithPath: place))
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

/// A real Postgres on loopback for the whole run, by the same script that the acceptance tests use. It
/// ends when this process does, since its input then ends.
private final class TestPostgres: Sendable {
  static let shared = Result { try TestPostgres() }

  private struct Pipes {
    let requests: FileHandle
    let answers: FileHandle
  }
  private let pipes: Mutex<Pipes>

  private struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  init() throws {
    let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().appendingPathComponent("Acceptance/postgres.py")
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["python3", script.path]
    let (input, output) = (Pipe(), Pipe())
    process.standardInput = input
    process.standardOutput = output
    try process.run()
    pipes = Mutex(
      Pipes(requests: input.fileHandleForWriting, answers: output.fileHandleForReading))
  }

  /// The URL of a new, empty database.
  func makeDatabase() throws -> String {
    try pipes.withLock { pipes in
      try pipes.requests.write(contentsOf: Data("database\n".utf8))
      var line = Data()
      while true {
        guard let byte = try pipes.answers.read(upToCount: 1), !byte.isEmpty else {
          throw Failure(description: "no Postgres; scripts/install-deps --tests installs it")
        }
        if byte == Data("\n".utf8) { return String(decoding: line, as: UTF8.self) }
        line.append(byte)
      }
    }
  }
}
