internal import Basics

/// The rate limit of a connection's frames: first the connection's own rate, then its user's. A value; the caller
/// provides the clock.
struct FrameAllowance {
  /// Nil means no limit.
  private let rate: Rate?
  private var bucket: TokenBucket
  /// A count of refusals. An allowed frame lowers it by one, or resets it if enough tokens are left. It is not reset by
  /// every allowed frame, because even a flooding client gets a frame through whenever a single token has been
  /// refilled.
  private(set) var refusals = 0

  /// The fraction of one second's rate that must be left in the bucket for `refusals` to be reset.
  private static let recoveredShare = 0.2

  /// `now` is a time of `Monotonic.nanoseconds`.
  init(_ rate: Rate?, now: UInt64) {
    self.rate = rate
    bucket = TokenBucket(rate ?? Rate(burst: 1, perSecond: 1), now: now)
  }

  /// Takes one frame from the limits. Returns false if the frame must be refused. `ofUser` takes from the user's
  /// limit. It is called only if the connection has a limit of its own and that limit allows the frame.
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

  /// Charges for more frames after an expensive one has been served. Later frames are refused until the debt is
  /// refilled.
  mutating func charge(_ frames: Int) { if rate != nil { bucket.charge(frames) } }
}
