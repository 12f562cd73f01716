/// Decides when a connection that this side has closed is cut, if its peer does not close it. A value; the caller
/// provides the clock, in milliseconds.
///
/// First, what is queued is sent, as long as the reader takes some of it. Then this side is shut down, and what
/// arrives is read and dropped for a while: closing a socket with unread bytes sends a reset, which would destroy the
/// last bytes sent.
struct ConnectionEnd {
  /// How long the reader may take nothing.
  private let patience: Int64
  /// When this side was shut down; nil before.
  private(set) var shutAt: Int64?
  /// When many bytes last arrived.
  private var heardAt: Int64
  private var heardBytes = 0

  /// How long the connection is still read after the peer's kernel has acknowledged everything, if the peer is
  /// silent.
  private static let lingerMilliseconds: Int64 = 2_000
  /// How long a peer may keep sending unwanted data.
  private static let longestLingerMilliseconds: Int64 = 30_000
  /// Smaller amounts at a time do not delay the end.
  private static let countedBytes = 16 * 1024

  init(patience: Int64, now: Int64) {
    self.patience = patience
    heardAt = now
  }

  /// Bytes arrived and were dropped.
  mutating func received(_ count: Int, now: Int64) {
    heardBytes += count
    guard heardBytes >= Self.countedBytes else { return }
    heardBytes = 0
    heardAt = now
  }

  /// This side sends nothing more.
  mutating func shut(now: Int64) { shutAt = now }

  /// Whether to cut the connection. `stalledMilliseconds` is how long the reader has taken nothing of what is queued;
  /// `unread` are the bytes that its kernel has not acknowledged.
  func isOver(stalledMilliseconds: Int64, unread: Int, now: Int64) -> Bool {
    if stalledMilliseconds >= patience { return true }
    guard let shutAt, unread == 0 else { return false }
    return now - max(shutAt, heardAt) >= Self.lingerMilliseconds
      || now - shutAt >= Self.longestLingerMilliseconds
  }
}
