internal import CHiredis

/// A reply of Redis (RESP 2).
///
/// https://redis.io/docs/latest/develop/reference/protocol-spec/
indirect enum RedisReply: Equatable, Sendable {
  case status(String)
  /// An error text, which begins with a code in capital letters: `NOAUTH Authentication required.`
  case error(String)
  case integer(Int64)
  case bytes([UInt8])
  case null
  case array([RedisReply])
}

/// A parser of Redis replies, based on hiredis. Its memory is bounded, even if the peer is not a Redis
/// server or is malicious.
final class RedisReplyReader {
  /// The reason why the input is not an acceptable reply. The reader cannot be used afterwards.
  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  private let reader: UnsafeMutablePointer<redisReader>
  /// The number of bytes received since the last complete reply.
  private var unfinishedBytes = 0
  private let maximumReplyBytes: Int

  /// The longest line, which may also be the length prefix of a bulk string. Lines are bounded because hiredis
  /// searches for a line's end from its start again whenever more bytes arrive.
  private static let maximumLineBytes = 4096
  /// The most elements of an array. The messages that a subscriber receives have three.
  private static let maximumElements: martlet_reply_count = 16

  /// `maximumReplyBytes` is the approximate limit for the size of one reply.
  init(maximumReplyBytes: Int) {
    self.maximumReplyBytes = maximumReplyBytes
    guard let reader = redisReaderCreateWithFunctions(Self.functions) else {
      // hiredis returns nil only without memory, when Swift code cannot continue either.
      fatalError("out of memory")
    }
    self.reader = reader
  }

  deinit { redisReaderFree(reader) }

  /// Parses received bytes, and returns the replies that they complete. Throws `Failure`.
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
      // Balances passRetained in `keep`.
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

  /// Whether the unparsed input begins with a line that is too long.
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

  // MARK: hiredis callbacks

  /// A reply that is being parsed: one value, or an array whose elements are added one by one.
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

  /// The callbacks, shared by all readers. The pointer is unsafe only by its type: nothing is written to it after it
  /// was made.
  nonisolated(unsafe) private static let functions:
    UnsafeMutablePointer<redisReplyObjectFunctions> =
      {
        let functions = UnsafeMutablePointer<redisReplyObjectFunctions>.allocate(capacity: 1)
        functions.initialize(
          to: redisReplyObjectFunctions(
            createString: { RedisReplyReader.string($0, $1, $2) },
            createArray: { task, count in
              // Nil makes hiredis stop with an error. No expected reply has so many elements.
              guard count <= RedisReplyReader.maximumElements else { return nil }
              return RedisReplyReader.keep(Node(elements: Int(count)), task)
            },
            createInteger: { RedisReplyReader.keep(Node(.integer($1)), $0) },
            createNil: { RedisReplyReader.keep(Node(.null), $0) },
            freeObject: { object in
              // Balances passRetained in `keep`, for a reply that was never completed.
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

  /// Stores a node where hiredis expects it. An element is added to its array, which retains it. The node of a whole
  /// reply is retained for hiredis, until `read` or `freeObject` releases it.
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
