internal import Basics

/// Frames that arrived while something had to be waited for, in order.
struct WaitingFrames {
  private var frames = Queue<(text: [UInt8], since: Int64)>()
  private var bytes = 0

  private static let maximumFrames = 512
  private static let maximumBytes = 256 * 1024
  /// How long a frame waits for a node that does not know enough to serve it. Requests wait as long.
  private static let maximumMilliseconds: Int64 = 5_000

  /// Whether reading should stop. What was read from the socket already may still be added.
  var isFull: Bool { frames.count >= Self.maximumFrames || bytes >= Self.maximumBytes }

  var isEmpty: Bool { frames.isEmpty }

  mutating func add(_ text: UnsafeRawBufferPointer) {
    frames.append(([UInt8](text), Monotonic.milliseconds))
    bytes += text.count
  }

  mutating func next() -> [UInt8]? {
    guard let frame = frames.popFirst() else { return nil }
    bytes -= frame.text.count
    return frame.text
  }

  /// As `next`, but only a frame that has waited so long that it is to be refused.
  mutating func nextOverdue(now: Int64) -> [UInt8]? {
    guard let first = frames.first, now - first.since > Self.maximumMilliseconds else { return nil }
    return next()
  }
}
