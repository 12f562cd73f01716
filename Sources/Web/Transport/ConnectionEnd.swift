/// The timing of a lingering close: decides when a connection that this side closes is cut if its peer does not close
/// it. A value; the caller provides the clock, in milliseconds.
///
/// First, the queue is sent, as long as the peer keeps reading. Then this side is shut down, and input is read and
/// dropped for a while. If a socket were closed with unread input, the kernel would send a reset, which would destroy
/// the last bytes sent.
struct ConnectionEnd {
  /// How long the peer may read nothing while bytes are queued for it.
  private let patience: Int64
  /// When this side was shut down; nil before.
  private(set) var shutAt: Int64?
  /// When at least `countedBytes` had last arrived; before that, when this value was made.
  private var heardAt: Int64
  private var heardBytes = 0

  /// How long input is still read after this side was shut down, or after the last `countedBytes` of input. The
  /// connection is not cut for this reason before the peer's kernel has acknowledged everything.
  private static let lingerMilliseconds: Int64 = 2_000
  /// How long a peer may keep sending unwanted data after this side was shut down.
  private static let longestLingerMilliseconds: Int64 = 30_000
  /// The amount of input that extends the linger time. Less does not extend it.
  private static let countedBytes = 16 * 1024

  init(patience: Int64, now: Int64) {
    self.patience = patience
    heardAt = now
  }

  /// Notes that bytes arrived and were dropped.
  mutating func received(_ count: Int, now: Int64) {
    heardBytes += count
    guard heardBytes >= Self.countedBytes else { return }
    heardBytes = 0
    heardAt = now
  }

  /// Notes that this side was shut down.
  mutating func shut(now: Int64) { shutAt = now }

  /// Whether to cut the connection. `stalledMilliseconds` is for how long the peer has read nothing of what is queued;
  /// `unread` is the number of sent bytes that the peer's kernel has not acknowledged.
  func isOver(stalledMilliseconds: Int64, unread: Int, now: Int64) -> Bool {
    if stalledMilliseconds >= patience { return true }
    guard let shutAt, unread == 0 else { return false }
    return now - max(shutAt, heardAt) >= Self.lingerMilliseconds
      || now - shutAt >= Self.longestLingerMilliseconds
  }
}
