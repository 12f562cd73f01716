import Basics
import Synchronization
import TestSupport
import Testing

@testable import Accounts

/// Questions that arrive while others are being answered are answered together, even if some askers give up.
@Suite(.timeLimit(.minutes(1))) struct NameCheckTests {
  /// A database that answers on command. An id with an odd lower half belongs to this server.
  private final class Reads: Sendable {
    struct Failure: Error {}
    private struct State {
      var sizes: [Int] = []
      var waiting: [CheckedContinuation<Void, Never>] = []
      var isOpen = false
      var fails = false
      var areAllVersion7 = false
    }
    private let state = Mutex(State())

    var sizes: [Int] { state.withLock(\.sizes) }

    func answer(_ questions: [[UUID]]) async throws -> NameCheck.Reading {
      await withCheckedContinuation { continuation in
        let goesOn = state.withLock { state in
          state.sizes.append(questions.count)
          if !state.isOpen { state.waiting.append(continuation) }
          return state.isOpen
        }
        if goesOn { continuation.resume() }
      }
      try Task.checkCancellation()
      if state.withLock(\.fails) { throw Failure() }
      return NameCheck.Reading(
        answers: questions.map { $0.contains { $0.low & 1 == 1 } },
        areAllVersion7: state.withLock(\.areAllVersion7))
    }

    func setAreAllVersion7(_ value: Bool) { state.withLock { $0.areAllVersion7 = value } }

    /// Answers what waits, and everything that comes.
    func open(failing: Bool = false) {
      let waiting = state.withLock { state in
        defer { state.waiting = [] }
        state.isOpen = true
        state.fails = failing
        return state.waiting
      }
      for continuation in waiting { continuation.resume() }
    }
  }

  private func question(_ number: UInt64) -> [UUID] {
    [UUID(high: 1, low: 2), UUID(high: 1, low: number)]
  }

  private func until(_ condition: () -> Bool) async throws {
    try await eventually("they have asked", condition)
  }

  /// Asks while the first read is held, and returns when all have asked.
  private func ask(
    _ check: NameCheck, _ reads: Reads, count: Int
  ) async throws -> [Task<Bool, any Error>] {
    var tasks: [Task<Bool, any Error>] = []
    for number in 0..<count {
      tasks.append(Task { try await check.isAnyTaken(question(UInt64(number))) })
      if number == 0 { try await until { reads.sizes.count == 1 } }
    }
    try await until { check.waitingCount == count - 1 }
    return tasks
  }

  @Test func `each gets its own answer, of few reads`() async throws {
    let reads = Reads()
    let check = NameCheck { try await reads.answer($0) }
    let tasks = try await ask(check, reads, count: 250)
    reads.open()
    for (number, task) in tasks.enumerated() {
      #expect(try await task.value == (number % 2 == 1))
    }
    #expect(reads.sizes == [1, 100, 100, 49])
    #expect(try await check.isAnyTaken(question(7)))
    #expect(reads.sizes.count == 5)
  }

  @Test func `whoever gives up while reading fails nobody else`() async throws {
    let reads = Reads()
    let check = NameCheck { try await reads.answer($0) }
    let tasks = try await ask(check, reads, count: 3)
    tasks[0].cancel()
    reads.open()
    await #expect(throws: CancellationError.self) { try await tasks[0].value }
    #expect(try await tasks[1].value)
    #expect(try await !tasks[2].value)
  }

  @Test func `a read that fails fails for all who asked it, and not for who comes next`()
    async throws
  {
    let reads = Reads()
    let check = NameCheck { try await reads.answer($0) }
    let tasks = try await ask(check, reads, count: 3)
    reads.open(failing: true)
    for task in tasks { await #expect(throws: Reads.Failure.self) { try await task.value } }
    reads.open()
    #expect(try await check.isAnyTaken(question(1)))
  }

  @Test func `who cannot be one of ours is not looked for while nothing unusual is here`()
    async throws
  {
    let reads = Reads()
    let clock = Atomic<Int64>(0)
    let check = NameCheck(
      now: { clock.load(ordering: .relaxed) }, read: { try await reads.answer($0) })
    reads.open()
    // There is an unusual id, so each question is read.
    for _ in 0..<2 { #expect(try await !check.isAnyTaken(question(2))) }
    #expect(reads.sizes.count == 2)
    // There is none. The next questions need no read for a second, whatever the lower half says.
    reads.setAreAllVersion7(true)
    #expect(try await !check.isAnyTaken(question(2)))
    clock.store(999, ordering: .relaxed)
    #expect(try await !check.isAnyTaken(question(3)))
    #expect(reads.sizes.count == 3)
    // Version 7 is read anyway, also beside another.
    let ours = UUID(high: 0x7000, low: 3)
    #expect(try await check.isAnyTaken([ours]))
    #expect(try await check.isAnyTaken([UUID(high: 1, low: 2), ours]))
    #expect(reads.sizes.count == 5)
    // The last read was at 999. A thousand later there is another read, which finds what was added.
    reads.setAreAllVersion7(false)
    clock.store(1998, ordering: .relaxed)
    #expect(try await !check.isAnyTaken(question(3)))
    clock.store(1999, ordering: .relaxed)
    #expect(try await check.isAnyTaken(question(3)))
    #expect(reads.sizes.count == 6)
  }

  @Test func `what was read before the database was another one is forgotten`() async throws {
    let reads = Reads()
    let check = NameCheck(now: { 0 }, read: { try await reads.answer($0) })
    reads.setAreAllVersion7(true)
    // Once during the read, and once after it.
    let task = Task { try await check.isAnyTaken(question(2)) }
    try await until { reads.sizes.count == 1 }
    check.forget()
    reads.open()
    #expect(try await !task.value)
    #expect(try await !check.isAnyTaken(question(2)))
    #expect(reads.sizes.count == 2)
    #expect(try await !check.isAnyTaken(question(2)))
    #expect(reads.sizes.count == 2)
    check.forget()
    #expect(try await !check.isAnyTaken(question(2)))
    #expect(reads.sizes.count == 3)
  }
}
