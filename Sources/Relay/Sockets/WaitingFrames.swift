internal import Basics

/// The received frames of one socket that have to wait, in order.
struct WaitingFrames {
  private var frames = Queue<(text: [UInt8], since: Int64)>()
  private var bytes = 0

  private static let maximumFrames = 512
  private static let maximumBytes = 256 * 1024
  /// How long a frame may wait while this node does not know who may do what. HTTP requests wait equally long.
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

  /// Removes and returns all waiting frames if the first of them has waited so long that it must be refused; otherwise
  /// returns none. The frames behind it are refused too, because the client sent them in the belief that the first
  /// would be served.
  mutating func takeOverdue(now: Int64) -> [[UInt8]] {
    guard let first = frames.first, now - first.since > Self.maximumMilliseconds else { return [] }
    bytes = 0
    return frames.popWhile { _ in true }.map(\.text)
  }
}
