/// Whether the reader of a connection takes what is sent to it. A value; the clock is the caller's.
struct OutputProgress {
  /// Bytes that the kernel has taken, ever.
  var sent = 0
  /// Of these, what the reader had taken when it was looked at last.
  private var read = 0
  private var movedAt: Int64 = 0

  /// From this moment on there is something to read.
  mutating func begin(now: Int64) { movedAt = now }

  /// Milliseconds since the reader took something; 0 where nothing waits for it. `unread` are the bytes that were sent
  /// and that its kernel has not acknowledged.
  mutating func stalledMilliseconds(unread: Int, isQueueEmpty: Bool, now: Int64) -> Int64 {
    let taken = sent - unread
    if taken != read || (unread == 0 && isQueueEmpty) {
      read = taken
      movedAt = now
    }
    return now - movedAt
  }
}
