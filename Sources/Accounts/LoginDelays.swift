package import Basics
internal import Synchronization

/// Slows down password guessing: after five failures for an account from one address (an IPv4 address or an IPv6 /64),
/// log-ins are refused for 1 s, doubling up to 60 s. Kept in memory, bounded, forgotten after an hour.
///
/// Attempts that are being checked count as failures, so that guesses sent in parallel gain nothing: those beyond the
/// fifth wait for the result of earlier ones.
package final class LoginDelays: Sendable {
  private struct Key: Hashable {
    let account: String
    let address: IPAddress.Site
  }

  private struct Attempts {
    /// Failures since the last success.
    var failures = 0
    var blockedUntil: Int64 = 0
    var lastAt: Int64 = 0
    /// Attempts whose outcome is not known yet.
    var running = 0
    /// The waiting attempts, each with a number, so that a cancelled one can be found.
    var waiting: [Int: CheckedContinuation<Void, Never>] = [:]
  }

  private let attempts = Mutex<[Key: Attempts]>([:])
  private let waiterCount = Atomic<Int>(0)

  private static let free = 5
  private static let maximumWaiting = 1000
  private static let longestMilliseconds: Int64 = 60_000
  private static let keptMilliseconds: Int64 = 3_600_000
  private static let capacity = 100_000

  private let now: @Sendable () -> Int64

  /// `now` is a clock in milliseconds that never goes back.
  package init(now: @escaping @Sendable () -> Int64 = { Monotonic.milliseconds }) {
    self.now = now
  }

  /// Runs `attempt` in its turn; `attempt` returns whether the secret was right. Throws `rate_limited` while the
  /// delay lasts, and what `attempt` throws, which does not count as an attempt.
  package func guarded(
    _ account: String, _ address: IPAddress, _ attempt: () async throws -> Bool
  ) async throws -> Bool {
    let key = Key(account: account, address: address.site)
    while try !begin(key, now: now()) {
      await waitForOthers(key)
      if Task.isCancelled { throw AppError(.unavailable) }
    }
    do {
      let isRight = try await attempt()
      end(key, isRight ? .right : .wrong, now: now())
      return isRight
    } catch {
      end(key, .unknown, now: now())
      throw error
    }
  }

  /// Waits until a running attempt ends, or the calling task is cancelled.
  private func waitForOthers(_ key: Key) async {
    let number = waiterCount.wrappingAdd(1, ordering: .relaxed).newValue
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let mustWait = attempts.withLock { attempts in
          // Checked inside the lock that the cancellation handler takes too.
          guard !Task.isCancelled, let entry = attempts[key], entry.running > 0 else {
            return false
          }
          attempts[key]?.waiting[number] = continuation
          return true
        }
        if !mustWait { continuation.resume() }
      }
    } onCancel: {
      attempts.withLock { $0[key]?.waiting.removeValue(forKey: number) }?.resume()
    }
  }

  /// Returns false if the attempt has to wait for others.
  private func begin(_ key: Key, now: Int64) throws(AppError) -> Bool {
    let turn = attempts.withLock { attempts -> Turn in
      makeRoom(&attempts, now: now)
      var entry = attempts[key] ?? Attempts()
      if entry.running == 0, now - entry.lastAt > Self.keptMilliseconds { entry = Attempts() }
      if entry.blockedUntil > now { return .refused(for: entry.blockedUntil - now) }
      // Once there is a delay, attempts run one at a time.
      let places = max(1, Self.free - entry.failures)
      guard entry.running < places else {
        return entry.waiting.count < Self.maximumWaiting ? .later : .never
      }
      entry.running += 1
      entry.lastAt = now
      attempts[key] = entry
      return .now
    }
    switch turn {
    case .now: return true
    case .later: return false
    case .refused(let milliseconds):
      throw AppError(.rateLimited, retryAfter: Int((milliseconds + 999) / 1000))
    case .never: throw AppError(.unavailable, "Too many log-ins at once; try again.")
    }
  }

  private enum Turn {
    case now, later, never
    /// For this many milliseconds.
    case refused(for: Int64)
  }

  private enum Outcome { case right, wrong, unknown }

  private func end(_ key: Key, _ outcome: Outcome, now: Int64) {
    let waiting = attempts.withLock { attempts -> [Int: CheckedContinuation<Void, Never>] in
      guard var entry = attempts[key] else { return [:] }
      entry.running -= 1
      switch outcome {
      case .unknown: break
      case .right:
        entry.failures = 0
        entry.blockedUntil = 0
      case .wrong:
        entry.failures += 1
        entry.lastAt = now
        if entry.failures >= Self.free {
          // Seven doublings already exceed the maximum, so this cannot overflow.
          let doublings = min(entry.failures - Self.free, 7)
          entry.blockedUntil = now + min(1000 << Int64(doublings), Self.longestMilliseconds)
        }
      }
      let waiting = entry.waiting
      entry.waiting = [:]
      attempts[key] = entry.running == 0 && entry.failures == 0 ? nil : entry
      return waiting
    }
    for continuation in waiting.values { continuation.resume() }
  }

  private func makeRoom(_ attempts: inout [Key: Attempts], now: Int64) {
    guard attempts.count >= Self.capacity else { return }
    attempts = attempts.filter {
      $0.value.running > 0 || now - $0.value.lastAt < Self.keptMilliseconds
    }
    if attempts.count >= Self.capacity { attempts = attempts.filter { $0.value.running > 0 } }
  }
}
