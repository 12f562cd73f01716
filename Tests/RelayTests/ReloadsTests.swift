import Basics
import EventLoop
import Synchronization
import TestSupport
import Testing

@testable import Relay

@Suite struct ReloadsTests {
  private struct Unreadable: Error {}

  /// The reads that have begun. Each waits until the test ends it.
  private final class Readings: Sendable {
    struct Reading {
      let wanted: [Int: Int64]
      private let continuation: CheckedContinuation<[Int: Int64], any Error>

      init(_ wanted: [Int: Int64], _ continuation: CheckedContinuation<[Int: Int64], any Error>) {
        self.wanted = wanted
        self.continuation = continuation
      }

      func end(_ found: [Int: Int64]) { continuation.resume(returning: found) }
      func fail(_ error: any Error) { continuation.resume(throwing: error) }
    }

    private let waiting = Mutex<[Reading]>([])

    func read(_ wanted: [Int: Int64]) async throws -> [Int: Int64] {
      try await withCheckedThrowingContinuation { continuation in
        waiting.withLock { $0.append(Reading(wanted, continuation)) }
      }
    }

    /// Waits until a read begins, and returns it.
    func next(on loop: Loop) async throws -> Reading {
      try await eventually("a reading begins") { !isEmpty }
      return try waiting.withLock {
        guard !$0.isEmpty else { throw Unreadable() }
        return $0.removeFirst()
      }
    }

    var isEmpty: Bool { waiting.withLock { $0.isEmpty } }
  }

  /// What was found and what is done, each in the order of the calls.
  private final class Seen {
    var found: [[Int64?]] = []
    var done: [Int] = []
  }

  private func with(
    _ body: @escaping @Sendable (Loop, Reloads<Int, Int64>, Readings, Seen) async throws -> Void
  ) throws {
    let loop = Loop()
    defer { loop.stop() }
    let readings = Readings()
    try loop.runBlocking {
      let reloads = Reloads<Int, Int64>(
        of: "numbers", log: Log(level: .error, format: .text) { _ in }, version: { $0 },
        wait: { loop.schedule(after: $0, $1) },
        read: { versions, then in
          let then = LoopBound(then, on: loop)
          loop.task {
            let result: Result<[Int: Int64], any Error>
            do { result = .success(try await readings.read(versions)) } catch {
              result = .failure(error)
            }
            then.value(result)
          }
        })
      let seen = Seen()
      reloads.found = { id, version in seen.found.append([Int64(id), version]) }
      reloads.done = { seen.done.append($0) }
      try await body(loop, reloads, readings, seen)
    }
  }

  /// Waits until the result of a read was delivered.
  private static func settle(_ loop: Loop, until isSettled: () -> Bool) async throws {
    try await eventually("what was found is handed over", isSettled)
  }

  @Test func `what comes while one is read is read together afterwards`() throws {
    try with { loop, reloads, readings, seen in
      for id in 0..<3 { reloads.read(id, version: 1) }
      let first = try await readings.next(on: loop)
      #expect(first.wanted == [0: 1])
      first.end([0: 1])
      let second = try await readings.next(on: loop)
      #expect(second.wanted == [1: 1, 2: 1])
      // The result lacks 2, so it is not in the database any more. That is an answer too.
      second.end([1: 1])
      try await Self.settle(loop) { reloads.isEmpty }
      #expect(seen.done.sorted() == [0, 1, 2])
      #expect(seen.found.contains([2, nil]))
    }
  }

  @Test
  func `a version named while it is read is read again, and one from before is not waited for`()
    throws
  {
    try with { loop, reloads, readings, seen in
      reloads.read(0, version: 5)
      let first = try await readings.next(on: loop)
      reloads.read(0, version: 6)
      first.end([0: 5])
      let second = try await readings.next(on: loop)
      #expect(second.wanted == [0: 6])
      // The database was at 6 and went back. No version was announced after this read began, so the result counts.
      second.end([0: 4])
      try await Self.settle(loop) { reloads.isEmpty }
      #expect(seen.done == [0])
      #expect(readings.isEmpty)
    }
  }

  @Test func `a reading that began before something was forgotten does not count as its own`()
    throws
  {
    try with { loop, reloads, readings, seen in
      reloads.read(0, version: 1)
      let first = try await readings.next(on: loop)
      reloads.forget(0)
      reloads.read(0, version: 2)
      first.end([0: 1])
      let second = try await readings.next(on: loop)
      #expect(second.wanted == [0: 2])
      #expect(seen.done.isEmpty)
      second.end([0: 2])
      try await Self.settle(loop) { reloads.isEmpty }
      #expect(seen.found.last == [0, 2])
      #expect(seen.done == [0])
    }
  }

  @Test func `what cannot be read holds up only itself`() throws {
    try with { loop, reloads, readings, seen in
      for id in 0..<3 { reloads.read(id, version: 1) }
      try await readings.next(on: loop).end([0: 1])
      let together = try await readings.next(on: loop)
      #expect(together.wanted == [1: 1, 2: 1])
      together.fail(Unreadable())
      // After that, each id is read alone, in any order.
      var alone: [Int] = []
      for _ in 0..<3 where alone.last != 2 {
        let reading = try await readings.next(on: loop)
        #expect(reading.wanted.count == 1)
        alone += reading.wanted.keys
        if reading.wanted == [1: 1] {
          reading.fail(Unreadable())
        } else {
          reading.end(reading.wanted)
        }
      }
      try await Self.settle(loop) { seen.done.contains(2) }
      #expect(seen.done.sorted() == [0, 2])
      #expect(reloads.contains(1))
      if alone.count < 3 { try await readings.next(on: loop).end([1: 1]) }
    }
  }

  @Test func `while the database is away, readings stay together`() throws {
    try with { loop, reloads, readings, seen in
      for id in 0..<3 { reloads.read(id, version: 1) }
      try await readings.next(on: loop).end([0: 1])
      try await readings.next(on: loop).fail(AppError(.unavailable))
      let again = try await readings.next(on: loop)
      #expect(again.wanted == [1: 1, 2: 1])
      again.end([1: 1, 2: 1])
      try await Self.settle(loop) { reloads.isEmpty }
      #expect(seen.done.sorted() == [0, 1, 2])
    }
  }

  @Test func `nothing is handed over after all was forgotten`() throws {
    try with { loop, reloads, readings, seen in
      reloads.read(0, version: 1)
      let reading = try await readings.next(on: loop)
      reloads.forgetAll()
      reloads.read(1, version: 1)
      reading.end([0: 1])
      // This read begins when the previous one has ended.
      try await readings.next(on: loop).end([1: 1])
      try await Self.settle(loop) { reloads.isEmpty }
      #expect(seen.found == [[1, 1]])
      #expect(seen.done == [1])
    }
  }
}
