internal import Basics

/// What waits to leave by one connection, in order. A value, without a socket.
struct OutputQueue {
  /// A range of bytes that is sent as one.
  struct Chunk {
    let bytes: SharedBytes
    /// What of them is to leave.
    var range: Range<Int>
    /// Whether the frame that it begins in may have left in part.
    var hasBegun: Bool
    /// Whether TLS has encrypted it already.
    var isEncrypted = false
  }

  private var chunks: [Chunk] = []
  private var head = 0
  /// Bytes that wait.
  private(set) var byteCount = 0

  /// Chunks that have left are forgotten in steps of so many.
  private static let step = 64

  var isEmpty: Bool { head == chunks.count }

  /// The chunk that leaves next.
  var first: Chunk? { isEmpty ? nil : chunks[head] }

  mutating func append(_ chunk: Chunk) {
    guard !chunk.range.isEmpty else { return }
    chunks.append(chunk)
    byteCount += chunk.range.count
  }

  /// Puts back what TLS made of the bytes that left the queue last.
  mutating func prepend(encrypted bytes: [UInt8]) {
    guard !bytes.isEmpty else { return }
    let chunk = Chunk(
      bytes: SharedBytes(bytes), range: 0..<bytes.count, hasBegun: true, isEncrypted: true)
    byteCount += bytes.count
    if head > 0 {
      head -= 1
      chunks[head] = chunk
    } else {
      chunks.insert(chunk, at: 0)
    }
  }

  /// So many bytes of the first chunk have left.
  mutating func removeFirst(_ count: Int) {
    guard count > 0, !isEmpty else { return }
    byteCount -= count
    guard count < chunks[head].range.count else {
      head += 1
      compact()
      return
    }
    chunks[head].range = chunks[head].range.dropFirst(count)
    chunks[head].hasBegun = true
  }

  private mutating func compact() {
    if isEmpty {
      chunks = []
      head = 0
    } else if head >= Self.step {
      chunks.removeFirst(head)
      head = 0
    }
  }

  /// Forgets what has not begun to leave: the stream remains whole frames.
  mutating func discardUnbegun() {
    chunks = Array(chunks[head...].prefix(while: \.hasBegun))
    head = 0
    byteCount = chunks.reduce(0) { $0 + $1.range.count }
  }

  mutating func removeAll() {
    chunks = []
    head = 0
    byteCount = 0
  }
}
