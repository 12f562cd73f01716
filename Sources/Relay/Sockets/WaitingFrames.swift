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

  /// `now` by `Monotonic.milliseconds`.
  mutating func add(_ text: UnsafeRawBufferPointer, now: Int64) {
    frames.append(([UInt8](text), now))
    bytes += text.count
  }

  mutating func next() -> [UInt8]? {
    guard let frame = frames.popFirst() else { return nil }
    bytes -= frame.text.count
    return frame.text
  }

  /// All that wait, where the first has waited so long that it is to be refused: what stands behind it
  /// was sent in the belief that it would be served.
  mutating func takeOverdue(now: Int64) -> [[UInt8]] {
    guard let first = frames.first, now - first.since > Self.maximumMilliseconds else { return [] }
    bytes = 0
    return frames.popWhile { _ in true }.map(\.text)
  }
}
