package import Basics
internal import Synchronization

/// Slows down guessing: after five failures for an account from an address, a delay that doubles from
/// 1 s to 60 s. In memory, bounded, forgotten after an hour.
package final class LoginDelays: Sendable {
  private struct Key: Hashable {
    let account: String
    let address: IPAddress
  }

  private struct Failures {
    var count = 0
    var blockedUntil: Int64 = 0
    var lastAt: Int64 = 0
  }

  private let failures = Mutex<[Key: Failures]>([:])

  private static let free = 5
  private static let longestMilliseconds: Int64 = 60_000
  private static let keptMilliseconds: Int64 = 3_600_000
  private static let capacity = 100_000

  package init() {}

  /// Throws `rate_limited` while the delay lasts.
  package func check(
    _ account: String, _ address: IPAddress, now: Int64 = Monotonic.milliseconds
  ) throws(AppError) {
    let left = failures.withLock { failures in
      (failures[Key(account: account, address: address)]?.blockedUntil ?? 0) - now
    }
    if left > 0 { throw AppError(.rateLimited, retryAfter: Int((left + 999) / 1000)) }
  }

  package func failed(
    _ account: String, _ address: IPAddress, now: Int64 = Monotonic.milliseconds
  ) {
    failures.withLock { failures in
      if failures.count >= Self.capacity {
        failures = failures.filter { now - $0.value.lastAt < Self.keptMilliseconds }
        if failures.count >= Self.capacity { failures.removeAll() }
      }
      let key = Key(account: account, address: address)
      var entry = failures[key] ?? Failures()
      if now - entry.lastAt > Self.keptMilliseconds { entry = Failures() }
      entry.count += 1
      entry.lastAt = now
      if entry.count >= Self.free {
        // Seven doublings are beyond the longest: no overflow.
        let doublings = min(entry.count - Self.free, 7)
        entry.blockedUntil = now + min(1000 << Int64(doublings), Self.longestMilliseconds)
      }
      failures[key] = entry
    }
  }

  package func succeeded(_ account: String, _ address: IPAddress) {
    failures.withLock { $0[Key(account: account, address: address)] = nil }
  }
}
