internal import CHiredis

/// A reply of Redis (RESP 2).
///
/// https://redis.io/docs/latest/develop/reference/protocol-spec/
indirect enum RedisReply: Equatable, Sendable {
  case status(String)
  /// Begins with a code in capital letters: `NOAUTH Authentication required.`
  case error(String)
  case integer(Int64)
  case bytes([UInt8])
  case null
  case array([RedisReply])
}

/// Parses what Redis sends into replies, with hiredis. Its memory is bounded, whatever is at the other end of the
/// connection.
final class RedisReplyReader {
  /// Why the input is not a reply. The reader cannot be used afterwards.
  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  private let reader: UnsafeMutablePointer<redisReader>
  /// The bytes since the last complete reply.
  private var unfinishedBytes = 0
  private let maximumReplyBytes: Int

  /// The longest line, or length of a text: hiredis searches its end from the start whenever more arrives.
  private static let maximumLineBytes = 4096
  /// The messages that a subscriber receives have three elements.
  private static let maximumElements: martlet_reply_count = 16

  /// A reply has about this many bytes at most.
  init(maximumReplyBytes: Int) {
    self.maximumReplyBytes = maximumReplyBytes
    guard let reader = redisReaderCreateWithFunctions(Self.functions) else {
      // Without memory a Swift process ends in any case.
      fatalError("out of memory")
    }
    self.reader = reader
  }

  deinit { redisReaderFree(reader) }

  /// Takes received bytes. Returns the replies that they complete. Throws `Failure`.
  func read(_ bytes: [UInt8]) throws -> [RedisReply] {
    unfinishedBytes += bytes.count
    let status = bytes.withUnsafeBytes {
      redisReaderFeed(
        reader, $0.baseAddress?.assumingMemoryBound(to: CChar.self), $0.count)
    }
    guard status == REDIS_OK else { throw failure }
    var replies: [RedisReply] = []
    while true {
      var found: UnsafeMutableRawPointer?
      guard redisReaderGetReply(reader, &found) == REDIS_OK else { throw failure }
      guard let found else { break }
      // The other half of passRetained in `keep`.
      replies.append(Unmanaged<Node>.fromOpaque(found).takeRetainedValue().reply)
      unfinishedBytes = 0
    }
    guard unfinishedBytes <= maximumReplyBytes else {
      throw Failure(description: "a reply has more than \(maximumReplyBytes) bytes")
    }
    guard !hasEndlessLine else {
      throw Failure(description: "a line has more than \(Self.maximumLineBytes) bytes")
    }
    return replies
  }

  /// Whether the unread input is a line that is too long.
  private var hasEndlessLine: Bool {
    let waiting = reader.pointee.len - reader.pointee.pos
    guard waiting > Self.maximumLineBytes, let start = reader.pointee.buf else { return false }
    let line = UnsafeRawBufferPointer(
      start: start + reader.pointee.pos, count: Self.maximumLineBytes)
    return !line.contains(10)
  }

  private var failure: Failure {
    let text = withUnsafeBytes(of: reader.pointee.errstr) {
      String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
    }
    return Failure(description: "no reply of a Redis: \(text)")
  }

  // MARK: Callbacks of hiredis

  /// A reply that is being read.
  private final class Node {
    private let value: RedisReply
    private var elements: [Node]?

    init(_ value: RedisReply) { self.value = value }

    init(elements count: Int) {
      value = .array([])
      elements = []
      elements?.reserveCapacity(count)
    }

    func add(_ element: Node) { elements?.append(element) }
    var reply: RedisReply { elements.map { .array($0.map(\.reply)) } ?? value }
  }

  /// Used by all readers. Unsafe because it is a pointer, but never written after it was made.
  nonisolated(unsafe) private static let functions:
    UnsafeMutablePointer<redisReplyObjectFunctions> =
      {
        let functions = UnsafeMutablePointer<redisReplyObjectFunctions>.allocate(capacity: 1)
        functions.initialize(
          to: redisReplyObjectFunctions(
            createString: { RedisReplyReader.string($0, $1, $2) },
            createArray: { task, count in
              // Nil stops the reading: no expected reply has so many elements.
              guard count <= RedisReplyReader.maximumElements else { return nil }
              return RedisReplyReader.keep(Node(elements: Int(count)), task)
            },
            createInteger: { RedisReplyReader.keep(Node(.integer($1)), $0) },
            createNil: { RedisReplyReader.keep(Node(.null), $0) },
            freeObject: { object in
              // The other half of passRetained in `keep`, for a reply that was never completed.
              if let object { Unmanaged<Node>.fromOpaque(object).release() }
            }))
        return functions
      }()

  private static func string(
    _ task: UnsafePointer<redisReadTask>?, _ text: UnsafeMutablePointer<CChar>?, _ count: Int
  ) -> UnsafeMutableRawPointer? {
    let bytes = UnsafeRawBufferPointer(start: text, count: count)
    let reply: RedisReply =
      switch task?.pointee.type {
      case REDIS_REPLY_STATUS: .status(String(decoding: bytes, as: UTF8.self))
      case REDIS_REPLY_ERROR: .error(String(decoding: bytes, as: UTF8.self))
      default: .bytes([UInt8](bytes))
      }
    return keep(Node(reply), task)
  }

  /// An element is retained by its array; a complete reply is retained by the reader.
  private static func keep(
    _ node: Node, _ task: UnsafePointer<redisReadTask>?
  ) -> UnsafeMutableRawPointer? {
    guard let parent = task?.pointee.parent else { return Unmanaged.passRetained(node).toOpaque() }
    if let object = parent.pointee.obj {
      Unmanaged<Node>.fromOpaque(object).takeUnretainedValue().add(node)
    }
    return Unmanaged.passUnretained(node).toOpaque()
  }
}
