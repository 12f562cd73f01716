import Testing

@testable import Web

@Suite struct WebSocketDecoderTests {
  /// Makes a client's frame whose first byte is `first`. Its payload must be shorter than 64 KiB.
  private func frame(_ first: UInt8, _ payload: [UInt8], masked: Bool = true) -> [UInt8] {
    var bytes: [UInt8] = [first]
    let mask: UInt8 = masked ? 0x80 : 0
    if payload.count < 126 {
      bytes.append(mask | UInt8(payload.count))
    } else {
      bytes += [mask | 126, UInt8(payload.count >> 8), UInt8(payload.count & 255)]
    }
    guard masked else { return bytes + payload }
    let key: [UInt8] = [1, 2, 3, 4]
    return bytes + key + payload.enumerated().map { $1 ^ key[$0 & 3] }
  }

  private enum Seen: Equatable {
    case text(String)
    case binary
    case ping([UInt8])
    case pong
    case close(UInt16?)
    case failure(UInt16)
  }

  private func decode(_ bytes: [UInt8], chunk: Int, limit: Int = 1000) -> [Seen] {
    var decoder = WebSocketDecoder(maximumMessageBytes: limit)
    var seen: [Seen] = []
    for start in stride(from: 0, to: bytes.count, by: chunk) {
      var part = Array(bytes[start..<min(start + chunk, bytes.count)])
      part.withUnsafeMutableBytes { buffer in
        decoder.receive(buffer) { event in
          switch event {
          case .text(let text): seen.append(.text(String(decoding: text, as: UTF8.self)))
          case .binary: seen.append(.binary)
          case .ping(let payload): seen.append(.ping(payload))
          case .pong: seen.append(.pong)
          case .close(let code): seen.append(.close(code))
          case .failure(let code, _): seen.append(.failure(code))
          }
          return true
        }
      }
    }
    return seen
  }

  @Test(arguments: [1, 2, 3, 7, 100_000])
  func `messages come whole, however they are cut`(chunk: Int) {
    let long = Array(repeating: UInt8(ascii: "x"), count: 300)
    let bytes =
      frame(0x81, Array("hé😀".utf8)) + frame(0x01, Array("fr".utf8)) + frame(0x89, [1, 2])
      + frame(0x00, Array("ag".utf8)) + frame(0x80, Array("ment".utf8)) + frame(0x81, long)
      + frame(0x82, [0]) + frame(0x8A, []) + frame(0x81, []) + frame(0x88, [0x03, 0xE8])
    #expect(
      decode(bytes, chunk: chunk) == [
        .text("hé😀"), .ping([1, 2]), .text("fragment"), .text(String(repeating: "x", count: 300)),
        .binary, .pong, .text(""), .close(1000),
      ])
  }

  @Test func `what breaks the rules fails with its code`() {
    let cases: [([UInt8], UInt16)] = [
      (frame(0x81, [1], masked: false), 1002), (frame(0xC1, [1]), 1002), (frame(0x83, []), 1002),
      (frame(0x8B, []), 1002), (frame(0x09, []), 1002),
      (frame(0x89, Array(repeating: 0, count: 126)), 1002),
      (frame(0x80, []), 1002), (frame(0x01, [65]) + frame(0x81, [65]), 1002),
      (frame(0x88, [3]), 1002),
      (frame(0x88, [0x03, 0xED]), 1002), (frame(0x88, [0x00, 0x00]), 1002),
      (frame(0x88, [0x03, 0xF7]), 1002),
      (frame(0x88, [0x03, 0xE8, 0xFF]), 1007), (frame(0x81, [0xFF]), 1007),
      (frame(0x81, [0xED, 0xA0, 0x80]), 1007),
      (frame(0x01, [0xC3]) + frame(0x80, [0x28]), 1007),
      (frame(0x81, Array(repeating: 65, count: 1001)), 1009),
      (
        frame(0x01, Array(repeating: 65, count: 600))
          + frame(0x80, Array(repeating: 65, count: 600)), 1009
      ),
      ([0x81, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0], 1002),
      ([0x81, 0xFF, 0x7F, 255, 255, 255, 255, 255, 255, 255], 1009),
    ]
    for (bytes, code) in cases {
      for chunk in [1, 1000] { #expect(decode(bytes, chunk: chunk).last == .failure(code)) }
    }
    // A character may be split between two fragments of a message.
    #expect(decode(frame(0x01, [0xC3]) + frame(0x80, [0xA9]), chunk: 1) == [.text("é")])
  }
}
