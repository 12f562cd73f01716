import Accounts
import Basics
import Synchronization
import Testing

@Suite struct LoginDelaysTests {
  private let address = IPAddress("203.0.113.9")!  // A literal address.

  /// Milliseconds that the test advances.
  private final class Clock: Sendable {
    private let value = Atomic<Int64>(1_000_000)
    var now: Int64 { value.load(ordering: .relaxed) }
    func advance(_ milliseconds: Int64) { value.wrappingAdd(milliseconds, ordering: .relaxed) }
  }

  private final class Running: Sendable { let count = Atomic<Int>(0) }

  /// Whether a wrong guess was checked; false if it was refused.
  private func guess(_ delays: LoginDelays) async -> Bool {
    do {
      _ = try await delays.guarded("a", address) { false }
      return true
    } catch { return false }
  }

  @Test func `the sixth guess waits, and each failure doubles the wait up to a minute`() async {
    let clock = Clock()
    let delays = LoginDelays(now: { clock.now })
    for _ in 1...5 { #expect(await guess(delays)) }
    for seconds: Int64 in [1, 2, 4, 8, 16, 32, 60, 60] {
      clock.advance(seconds * 1000 - 1)
      #expect(await !guess(delays))
      clock.advance(1)
      #expect(await guess(delays))
    }
  }

  @Test func `success forgets the failures`() async throws {
    let clock = Clock()
    let delays = LoginDelays(now: { clock.now })
    for _ in 1...4 { #expect(await guess(delays)) }
    #expect(try await delays.guarded("a", address) { true })
    for _ in 1...5 { #expect(await guess(delays)) }
    #expect(await !guess(delays))
  }

  @Test func `guesses sent together gain nothing`() async {
    let clock = Clock()
    let delays = LoginDelays(now: { clock.now })
    let running = Running()
    let looked = await withTaskGroup(of: Bool.self) { group in
      for _ in 0..<50 {
        group.addTask {
          do {
            _ = try await delays.guarded("a", address) {
              #expect(running.count.wrappingAdd(1, ordering: .relaxed).newValue <= 5)
              for _ in 0..<20 { await Task.yield() }
              running.count.wrappingSubtract(1, ordering: .relaxed)
              return false
            }
            return true
          } catch { return false }
        }
      }
      return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
    }
    #expect(looked == 5)
  }

  @Test func `right passwords sent together all pass`() async {
    let delays = LoginDelays()
    let passed = await withTaskGroup(of: Bool.self) { group in
      for _ in 0..<40 {
        group.addTask {
          (try? await delays.guarded("a", address) {
            await Task.yield()
            return true
          }) == true
        }
      }
      return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
    }
    #expect(passed == 40)
  }

  @Test func `what could not be checked is no failure`() async {
    let clock = Clock()
    let delays = LoginDelays(now: { clock.now })
    for _ in 0..<10 {
      await #expect(throws: AppError.self) {
        try await delays.guarded("a", address) {
          throw AppError(.unavailable)
        }
      }
    }
    #expect(await guess(delays))
  }
}
