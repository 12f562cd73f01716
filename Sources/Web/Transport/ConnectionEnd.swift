/// When a connection that was closed on this side is cut, although its peer has not closed it. A value; the clock is the
/// caller's, in milliseconds.
///
/// First what waits is sent, as long as its reader takes some of it. Then this side is shut, and what comes is read and
/// forgotten for a while: a socket that is closed with unread bytes answers with a reset, which destroys the last words.
struct ConnectionEnd {
  /// So long its reader may take nothing.
  private let patience: Int64
  /// When this side was shut; nil before.
  private(set) var shutAt: Int64?
  /// When many bytes came last.
  private var heardAt: Int64
  private var heardBytes = 0

  /// How long the connection is read once the peer's kernel has our last bytes, and its peer is silent.
  private static let lingerMilliseconds: Int64 = 2_000
  /// How long a peer may go on sending what nobody wants.
  private static let longestLingerMilliseconds: Int64 = 30_000
  /// Who sends less at a time does not put off the end.
  private static let countedBytes = 16 * 1024

  init(patience: Int64, now: Int64) {
    self.patience = patience
    heardAt = now
  }

  /// Bytes came that are forgotten.
  mutating func received(_ count: Int, now: Int64) {
    heardBytes += count
    guard heardBytes >= Self.countedBytes else { return }
    heardBytes = 0
    heardAt = now
  }

  /// This side sends nothing more.
  mutating func shut(now: Int64) { shutAt = now }

  /// Whether it is to be cut. `stalledMilliseconds`: for how long the reader has taken nothing of what waits for it. `unread`:
  /// bytes that its kernel has not acknowledged.
  func isOver(stalledMilliseconds: Int64, unread: Int, now: Int64) -> Bool {
    if stalledMilliseconds >= patience { return true }
    guard let shutAt, unread == 0 else { return false }
    return now - max(shutAt, heardAt) >= Self.lingerMilliseconds
      || now - shutAt >= Self.longestLingerMilliseconds
  }
}
