internal import Basics

/// Received frames that have to wait, in order.
struct WaitingFrames {
  private var frames = Queue<(text: [UInt8], since: Int64)>()
  private var bytes = 0

  private static let maximumFrames = 512
  private static let maximumBytes = 256 * 1024
  /// How long a frame waits for a node that does not know who may do what. Requests wait as long.
  private static let maximumMilliseconds: Int64 = 5_000

  /// Whether reading should stop. Frames that were already read from the socket may still be added.
  var isFull: Bool { frames.count >= Self.maximumFrames || bytes >= Self.maximumBytes }

  var isEmpty: Bool { frames.isEmpty }

  /// `now` is a time of `Monotonic.milliseconds`.
  mutating func add(_ text: UnsafeRawBufferPointer, now: Int64) {
    frames.append(([UInt8](text), now))
    bytes += text.count
  }

  mutating func next() -> [UInt8]? {
    guard let frame = frames.popFirst() else { return nil }
    bytes -= frame.text.count
    return frame.text
  }

  /// All waiting frames, if the first has waited so long that it is to be refused. The frames behind it were sent in
  /// the belief that the first would be served.
  mutating func takeOverdue(now: Int64) -> [[UInt8]] {
    guard let first = frames.first, now - first.since > Self.maximumMilliseconds else { return [] }
    bytes = 0
    return frames.popWhile { _ in true }.map(\.text)
  }
}
