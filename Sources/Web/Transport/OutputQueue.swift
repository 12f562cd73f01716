internal import Basics

/// The queued output of one connection, in order. A value, without a socket.
struct OutputQueue {
  /// A range of bytes that is sent as a unit.
  struct Chunk {
    enum Content {
      case bytes(SharedBytes)
      /// Bytes that TLS has encrypted already.
      case encrypted(SharedBytes)
      case file(OpenFile)
    }

    let content: Content
    /// The part of it that is still to be sent.
    var range: Range<Int>
    /// Whether the frame that it begins in may have been sent in part.
    var hasBegun: Bool

    var isEncrypted: Bool { if case .encrypted = content { true } else { false } }
    var isFile: Bool { if case .file = content { true } else { false } }
    /// The memory that it takes.
    var byteCount: Int { isFile ? 0 : range.count }
  }

  private var chunks: [Chunk] = []
  private var head = 0
  /// The bytes that wait here. Those of files stay in the files.
  private(set) var byteCount = 0

  /// Sent chunks are removed in groups of this size.
  private static let step = 64

  var isEmpty: Bool { head == chunks.count }

  /// The chunk that is sent next.
  var first: Chunk? { isEmpty ? nil : chunks[head] }

  mutating func append(_ chunk: Chunk) {
    guard !chunk.range.isEmpty else { return }
    chunks.append(chunk)
    byteCount += chunk.byteCount
  }

  /// Puts back the encrypted form of the bytes that left the queue last.
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

  /// The first `count` bytes of the first chunk were sent.
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

  /// Drops everything that has not begun to be sent, so that the stream still consists of whole frames.
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
