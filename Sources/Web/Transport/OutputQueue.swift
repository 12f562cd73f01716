internal import Basics

/// The queue of one connection's output, in order. A value, without a socket.
struct OutputQueue {
  /// A range of bytes in memory or in a file. It may be sent in several parts.
  struct Chunk {
    enum Content {
      case bytes(SharedBytes)
      /// Bytes that TLS has encrypted already.
      case encrypted(SharedBytes)
      case file(OpenFile)
    }

    let content: Content
    /// The range of the content that is still to be sent.
    var range: Range<Int>
    /// Whether the frame in which the range begins may have been sent in part.
    var hasBegun: Bool

    var isEncrypted: Bool { if case .encrypted = content { true } else { false } }
    var isFile: Bool { if case .file = content { true } else { false } }
    /// The memory that the chunk takes; 0 for a file.
    var byteCount: Int { isFile ? 0 : range.count }
  }

  private var chunks: [Chunk] = []
  private var head = 0
  /// The number of queued bytes in memory. The bytes of files are not counted.
  private(set) var byteCount = 0

  /// The number of sent chunks after which they are removed from the array.
  private static let step = 64

  var isEmpty: Bool { head == chunks.count }

  /// The chunk that is sent next; nil if the queue is empty.
  var first: Chunk? { isEmpty ? nil : chunks[head] }

  mutating func append(_ chunk: Chunk) {
    guard !chunk.range.isEmpty else { return }
    chunks.append(chunk)
    byteCount += chunk.byteCount
  }

  /// Puts encrypted bytes at the front of the queue, because TLS records must be sent in the order of their
  /// encryption.
  mutating func prepend(encrypted bytes: [UInt8]) {
    guard !bytes.isEmpty else { return }
    let chunk = Chunk(
      content: .encrypted(SharedBytes(bytes)), range: 0..<bytes.count, hasBegun: true)
    byteCount += bytes.count
    if head > 0 {
      head -= 1
      chunks[head] = chunk
    } else {
      chunks.insert(chunk, at: 0)
    }
  }

  /// Removes the first `count` bytes of the first chunk, after they were sent.
  mutating func removeFirst(_ count: Int) {
    guard count > 0, !isEmpty else { return }
    if !chunks[head].isFile { byteCount -= count }
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

  /// Discards everything except the rest of frames that have been sent in part, so that the stream still consists of
  /// whole frames.
  mutating func discardUnstarted() {
    chunks = Array(chunks[head...].prefix(while: \.hasBegun))
    head = 0
    byteCount = chunks.reduce(0) { $0 + $1.byteCount }
  }

  mutating func removeAll() {
    chunks = []
    head = 0
    byteCount = 0
  }
}
