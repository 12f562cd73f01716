internal import Synchronization

/// A rate limit: a number of events at once, and after those a number of events per second.
package struct Rate: Sendable, Equatable {
  package let burst: Int
  package let perSecond: Double

  package init(burst: Int, perSecond: Double) {
    self.burst = burst
    self.perSecond = perSecond
  }
}

/// A token bucket: full at first, then refilled continuously. After the burst, a rate of 50 per second allows 50 events
/// in any second, spread over that second.
package struct TokenBucket: Sendable {
  private var tokens: Double
  private var refilledAt: UInt64

  package init(_ rate: Rate, now: UInt64) {
    tokens = Double(rate.burst)
    refilledAt = now
  }

  /// Takes one token and returns true, or returns false if there is none. `now` is a time of `Monotonic.nanoseconds`.
  package mutating func take(_ rate: Rate, now: UInt64) -> Bool {
    refill(rate, now: now)
    guard tokens >= 1 else { return false }
    tokens -= 1
    return true
  }

  /// Takes tokens even if there are not enough. Later calls of `take` fail until the debt is refilled.
  package mutating func charge(_ count: Int) { tokens -= Double(count) }

  /// The number of tokens after the last call; negative if `charge` left a debt.
  package var available: Double { tokens }

  /// Returns the seconds until the next token, rounded up, at least 1 and at most a day; for `Retry-After`.
  package func secondsUntilNext(_ rate: Rate) -> Int {
    max(1, Int(min((1 - tokens) / rate.perSecond, 86_400).rounded(.up)))
  }

  package mutating func isFull(_ rate: Rate, now: UInt64) -> Bool {
    refill(rate, now: now)
    return tokens >= Double(rate.burst)
  }

  private mutating func refill(_ rate: Rate, now: UInt64) {
    guard now > refilledAt else { return }
    let seconds = Double(now - refilledAt) / 1e9
    tokens = min(Double(rate.burst), tokens + seconds * rate.perSecond)
    refilledAt = now
  }
}

/// A rate limiter with one token bucket per key, for use by all threads. Full buckets are dropped, so its memory
/// depends only on the number of recently active keys.
package final class KeyedRateLimiter<Key: Hashable & Sendable>: Sendable {
  package let rate: Rate
  private struct State {
    var buckets: [Key: TokenBucket] = [:]
    var sweepAt: UInt64 = 0
  }
  // Sharded to reduce lock contention, because every frame of every user is counted here.
  private let shards: [Shard]
  private final class Shard: Sendable { let state = Mutex(State()) }

  package init(_ rate: Rate) {
    self.rate = rate
    shards = (0..<16).map { _ in Shard() }
  }

  /// Takes a token of this key. Returns nil if there was one, otherwise the seconds after which to retry. `now` is a
  /// time of `Monotonic.nanoseconds`.
  package func take(_ key: Key, now: UInt64 = Monotonic.nanoseconds) -> Int? {
    let shard = shards[Int(truncatingIfNeeded: UInt(bitPattern: key.hashValue) % 16)]
    return shard.state.withLock { state in
      if now >= state.sweepAt { sweep(&state, now: now) }
      var bucket = state.buckets[key] ?? TokenBucket(rate, now: now)
      let isAllowed = bucket.take(rate, now: now)
      state.buckets[key] = bucket
      return isAllowed ? nil : bucket.secondsUntilNext(rate)
    }
  }

  private func sweep(_ state: inout State, now: UInt64) {
    state.buckets = state.buckets.filter { entry in
      var bucket = entry.value
      return !bucket.isFull(rate, now: now)
    }
    state.sweepAt = now + 10_000_000_000
  }
}

/// A limit on events per key within any hour (a sliding window). A token bucket would allow nearly twice the limit in
/// the first hour: its burst and its refill.
package final class HourlyLimit<Key: Hashable & Sendable>: Sendable {
  private struct State {
    /// The times of the events that were allowed in the last hour, oldest first.
    var moments: [Key: [Int64]] = [:]
    var sweepAt: Int64 = 0
  }
  private let state = Mutex(State())
  private let count: Int

  private static var hourMilliseconds: Int64 { 3_600_000 }

  package init(_ count: Int) { self.count = count }

  /// Counts an event of this key and returns nil, or returns the seconds until the next event is allowed. `now` is a
  /// time of `Monotonic.milliseconds`.
  package func take(_ key: Key, now: Int64 = Monotonic.milliseconds) -> Int? {
    state.withLock { state in
      let limit = now - Self.hourMilliseconds
      if now >= state.sweepAt {
        state.moments = state.moments.filter { ($0.value.last ?? limit) > limit }
        state.sweepAt = now + 60_000
      }
      var moments = state.moments[key, default: []].filter { $0 > limit }
      defer { state.moments[key] = moments }
      if moments.count >= count, let oldest = moments.first {
        return Int((oldest - limit + 999) / 1000)
      }
      moments.append(now)
      return nil
    }
  }
}
