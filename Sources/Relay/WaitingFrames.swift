/// Frames that arrived while something had to be waited for, in order.
struct WaitingFrames {
  private var frames: [[UInt8]] = []
  private var head = 0
  private var bytes = 0

  private static let maximumFrames = 512
  private static let maximumBytes = 256 * 1024

  /// Whether reading should stop. What was read from the socket already may still be added.
  var isFull: Bool { frames.count - head >= Self.maximumFrames || bytes >= Self.maximumBytes }

  var isEmpty: Bool { head == frames.count }

  mutating func add(_ text: UnsafeRawBufferPointer) {
    frames.append([UInt8](text))
    bytes += text.count
  }

  mutating func next() -> [UInt8]? {
    guard head < frames.count else { return nil }
    let frame = frames[head]
    head += 1
    bytes -= frame.count
    if head == frames.count {
      frames = []
      head = 0
    }
    return frame
  }
}
