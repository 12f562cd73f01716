import Testing

@testable import RedisFanout

@Suite struct RedisReplyReaderTests {
  private static let stream =
    "+OK\r\n-ERR no\r\n:-12\r\n$-1\r\n*-1\r\n$0\r\n\r\n*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\n\r\n\0x\r\n*0\r\n*2\r\n*1\r\n:1\r\n+s\r\n"
  private static let replies: [RedisReply] = [
    .status("OK"), .error("ERR no"), .integer(-12), .null, .null, .bytes([]),
    .array([.bytes(Array("message".utf8)), .bytes([99]), .bytes([13, 10, 0, 120])]), .array([]),
    .array([.array([.integer(1)]), .status("s")]),
  ]

  @Test(arguments: [1, 2, 3, 7, 1000])
  func `replies are whole whatever pieces they come in`(_ size: Int) throws {
    let reader = RedisReplyReader(maximumReplyBytes: 4 << 20)
    let bytes = Array(Self.stream.utf8)
    var read: [RedisReply] = []
    for start in stride(from: 0, to: bytes.count, by: size) {
      read += try reader.read(Array(bytes[start..<min(start + size, bytes.count)]))
    }
    #expect(read == Self.replies)
  }

  @Test(arguments: [
    "HTTP/1.1 400 Bad Request\r\n\r\n", "*2147483647\r\n", "*17\r\n", "$99999999999999999999\r\n",
    ":12a\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", "%1\r\n",
  ])
  func `what is no reply of a subscriber's Redis ends it`(_ text: String) {
    #expect(throws: RedisReplyReader.Failure.self) {
      _ = try RedisReplyReader(maximumReplyBytes: 4 << 20).read(Array(text.utf8))
    }
  }

  @Test func `a reply that never ends is not kept for ever`() throws {
    let reader = RedisReplyReader(maximumReplyBytes: 4 << 20)
    _ = try reader.read(Array("$500000000\r\n".utf8))
    let piece = [UInt8](repeating: 120, count: 1 << 20)
    #expect(throws: RedisReplyReader.Failure.self) {
      for _ in 0...(4) { _ = try reader.read(piece) }
    }
  }

  @Test(arguments: ["+", "-", ":", "$", "*", "*2\r\n:1\r\n+"])
  func `a line that never ends is not looked through again and again`(_ beginning: String) {
    let reader = RedisReplyReader(maximumReplyBytes: 4 << 20)
    let digits = [UInt8](repeating: 49, count: 1000)
    #expect(throws: RedisReplyReader.Failure.self) {
      _ = try reader.read(Array(beginning.utf8))
      for _ in 0..<6 { _ = try reader.read(digits) }
    }
  }
}
