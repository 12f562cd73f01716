/// A measure of whether the peer of a connection reads what is sent to it. A value; the caller provides the clock, in
/// milliseconds.
struct OutputProgress {
  /// The total number of bytes that the kernel has accepted.
  var sent = 0
  /// How many of these bytes the peer had acknowledged at the last check.
  private var read = 0
  private var movedAt: Int64 = 0

  /// Starts the clock: from this moment on the peer is expected to read.
  mutating func begin(now: Int64) { movedAt = now }

  /// Returns for how many milliseconds the peer has read nothing; 0 if nothing is queued for it. `unread` is the
  /// number of bytes that this kernel has accepted and the peer's kernel has not acknowledged.
  mutating func stalledMilliseconds(unread: Int, isQueueEmpty: Bool, now: Int64) -> Int64 {
    let taken = sent - unread
    if taken != read || (unread == 0 && isQueueEmpty) {
      read = taken
      movedAt = now
    }
    return now - movedAt
  }
}
