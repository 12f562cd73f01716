internal import Basics

/// The rate limit of a connection's frames: first the connection's own rate, then its user's. A value; the caller
/// provides the clock.
struct FrameAllowance {
  /// Nil means no limit.
  private let rate: Rate?
  private var bucket: TokenBucket
  /// Refusals in a row. A frame that only took the token which had just been refilled does not end the row, because a
  /// flooding client gets those too.
  private(set) var refusals = 0

  /// The fraction of one second's rate that must have been refilled for the row to end.
  private static let recoveredShare = 0.2

  /// `now` is a time of `Monotonic.nanoseconds`.
  init(_ rate: Rate?, now: UInt64) {
    self.rate = rate
    bucket = TokenBucket(rate ?? Rate(burst: 1, perSecond: 1), now: now)
  }

  /// Whether another frame may be served. `ofUser` takes from the user's limit; it is called only if the connection's
  /// own limit allows the frame.
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

  /// Charges more for a frame that was served already. The next frames wait for it.
  mutating func charge(_ frames: Int) { if rate != nil { bucket.charge(frames) } }
}
