internal import Basics

/// A connection's share of frames: its own rate, then its user's. A value; the clock is the caller's.
struct FrameAllowance {
  /// Nil: every frame may be served.
  private let rate: Rate?
  private var bucket: TokenBucket
  /// Refusals in a row. A frame that only got the token which had just come does not end the row: who
  /// floods gets those too.
  private(set) var refusals = 0

  /// The part of a second's share that must be there again for the row to have ended.
  private static let recoveredShare = 0.2

  /// `now` is `Monotonic.nanoseconds`.
  init(_ rate: Rate?, now: UInt64) {
    self.rate = rate
    bucket = TokenBucket(rate ?? Rate(burst: 1, perSecond: 1), now: now)
  }

  /// Whether another frame may be served. `ofUser` takes from the user's share; it is asked only where
  /// the connection has a share left.
  mutating func take(now: UInt64, ofUser: () -> Bool) -> Bool {
    guard let rate else { return true }
    guard bucket.take(rate, now: now), ofUser() else {
      refusals += 1
      return false
    }
    refusals =
      bucket.available >= rate.perSecond * Self.recoveredShare ? 0 : max(0, refusals - 1)
    return true
  }

  /// Takes more for a frame that was served already; the next ones wait for it.
  mutating func charge(_ frames: Int) { if rate != nil { bucket.charge(frames) } }
}
