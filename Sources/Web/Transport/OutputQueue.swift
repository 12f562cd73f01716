internal import Basics

/// What waits to leave by one connection, in order. A value, without a socket.
struct OutputQueue {
  /// A range of bytes that is sent as one.
  struct Chunk {
    enum Content {
      case bytes(SharedBytes)
      /// TLS has encrypted these already.
      case encrypted(SharedBytes)
      case file(OpenFile)
    }

    let content: Content
    /// What of it is to leave.
    var range: Range<Int>
    /// Whether the frame that it begins in may have left in part.
    var hasBegun: Bool

    var isEncrypted: Bool { if case .encrypted = content { true } else { false } }
    var isFile: Bool { if case .file = content { true } else { false } }
    /// What it takes of memory.
    var byteCount: Int { isFile ? 0 : range.count }
  }

  private var chunks: [Chunk] = []
  private var head = 0
  /// Bytes that wait here; those of files wait where they are.
  private(set) var byteCount = 0

  /// Chunks that have left are forgotten in steps of so many.
  private static let step = 64

  var isEmpty: Bool { head == chunks.count }

  /// The chunk that leaves next.
  var first: Chunk? { isEmpty ? nil : chunks[head] }

  mutating func append(_ chunk: Chunk) {
    guard !chunk.range.isEmpty else { return }
    chunks.append(chunk)
    byteCount += chunk.byteCount
  }

  /// Puts back what TLS made of the bytes that left the queue last.
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

  /// So many bytes of the first chunk have left.
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

  /// Forgets what has not begun to leave: the stream remains whole frames.
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
