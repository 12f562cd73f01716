internal import CHiredis

/// What Redis says (RESP 2).
///
/// https://redis.io/docs/latest/develop/reference/protocol-spec/
indirect enum RedisReply: Equatable, Sendable {
  case status(String)
  /// Begins with a code in capitals: `NOAUTH Authentication required.`
  case error(String)
  case integer(Int64)
  case bytes([UInt8])
  case null
  case array([RedisReply])
}

/// Cuts what comes from Redis into replies, with hiredis. What it holds is bounded: whatever answers in the place
/// of a Redis cannot make it take more.
final class RedisReplyReader {
  /// Why what came is no reply. The reader is of no use after that.
  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  private let reader: UnsafeMutablePointer<redisReader>
  /// Bytes since the last whole reply.
  private var unfinishedBytes = 0
  private let maximumReplyBytes: Int

  /// A line, or the length of a text: hiredis looks for its end from its beginning each time that more has come.
  private static let maximumLineBytes = 4096
  /// What comes for a subscriber has three.
  private static let maximumElements: martlet_reply_count = 16

  /// A reply has so many bytes at most, about.
  init(maximumReplyBytes: Int) {
    self.maximumReplyBytes = maximumReplyBytes
    guard let reader = redisReaderCreateWithFunctions(Self.functions) else {
      // Where there is no memory Swift ends everywhere.
      fatalError("out of memory")
    }
    self.reader = reader
  }

  deinit { redisReaderFree(reader) }

  /// Takes bytes as they came; returns the replies that they complete. Throws `Failure`.
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

  /// Whether what waits to be read is a line that does not end soon.
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

  // MARK: What hiredis calls

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

  /// Used by every reader. Unsafe, since it is a pointer: nobody writes to it once it is made.
  nonisolated(unsafe) private static let functions:
    UnsafeMutablePointer<redisReplyObjectFunctions> =
      {
        let functions = UnsafeMutablePointer<redisReplyObjectFunctions>.allocate(capacity: 1)
        functions.initialize(
          to: redisReplyObjectFunctions(
            createString: { RedisReplyReader.string($0, $1, $2) },
            createArray: { task, count in
              // Nil ends the reading: so many are no answer to anything that was asked.
              guard count <= RedisReplyReader.maximumElements else { return nil }
              return RedisReplyReader.keep(Node(elements: Int(count)), task)
            },
            createInteger: { RedisReplyReader.keep(Node(.integer($1)), $0) },
            createNil: { RedisReplyReader.keep(Node(.null), $0) },
            freeObject: { object in
              // The other half of passRetained in `keep`, where the reply was never whole.
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

  /// A part of an array is kept by that; what is on its own, by whoever reads it.
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
