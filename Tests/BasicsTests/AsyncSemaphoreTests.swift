import Synchronization
import TestSupport
import Testing

@testable import Basics

@Suite(.timeLimit(.minutes(1))) struct AsyncSemaphoreTests {
  private struct Refused: Error {}

  /// Counts running tasks.
  private final class Running: Sendable {
    private let counts = Mutex((now: 0, most: 0))
    var counted: (now: Int, most: Int) { counts.withLock { $0 } }

    func run() async {
      counts.withLock { $0 = ($0.now + 1, max($0.most, $0.now + 1)) }
      await Task.yield()
      counts.withLock { $0.now -= 1 }
    }
  }

  @Test func `so many run at a time, and all have their turn`() async throws {
    let semaphore = AsyncSemaphore(permits: 3)
    let running = Running()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<100 {
        group.addTask { try await semaphore.withPermit { await running.run() } }
      }
      try await group.waitForAll()
    }
    #expect(running.counted.now == 0)
    #expect((1...3).contains(running.counted.most))
  }

  @Test func `a failure gives its permit back`() async throws {
    let semaphore = AsyncSemaphore(permits: 1)
    for _ in 0..<3 {
      await #expect(throws: Refused.self) { try await semaphore.withPermit { throw Refused() } }
    }
    #expect(try await semaphore.withPermit { 7 } == 7)
  }

  @Test func `who was cancelled meanwhile does nothing, and keeps no permit`() async throws {
    let semaphore = AsyncSemaphore(permits: 1)
    let hasRun = Mutex(false)
    let gate = Mutex<CheckedContinuation<Void, Never>?>(nil)
    let first = Task {
      try await semaphore.withPermit {
        await withCheckedContinuation { continuation in gate.withLock { $0 = continuation } }
      }
    }
    try await eventually("the first runs") { gate.withLock { $0 != nil } }
    let second = Task { try await semaphore.withPermit { hasRun.withLock { $0 = true } } }
    second.cancel()
    gate.withLock { $0 }?.resume()
    try await first.value
    await #expect(throws: CancellationError.self) { try await second.value }
    #expect(!hasRun.withLock { $0 })
    #expect(try await semaphore.withPermit { 7 } == 7)
  }
}
