/// Measures whether the reader of a connection takes what is sent to it. A value; the caller provides the clock.
struct OutputProgress {
  /// The total number of bytes that the kernel has accepted.
  var sent = 0
  /// How many of them the reader had taken at the last check.
  private var read = 0
  private var movedAt: Int64 = 0

  /// From this moment on there is something to read.
  mutating func begin(now: Int64) { movedAt = now }

  /// The milliseconds since the reader took something; 0 if nothing is queued for it. `unread` are the bytes that
  /// were sent and that its kernel has not acknowledged.
  mutating func stalledMilliseconds(unread: Int, isQueueEmpty: Bool, now: Int64) -> Int64 {
    let taken = sent - unread
    if taken != read || (unread == 0 && isQueueEmpty) {
      read = taken
      movedAt = now
    }
    return now - movedAt
  }
}
