import Testing

@testable import Web

@Suite struct ChunkedDecoderTests {
  /// Decodes a body that arrives in pieces of `step` bytes. Returns its data and the bytes after the body. Nil if the
  /// body is refused or incomplete.
  private func decode(_ text: String, step: Int) -> (data: String, rest: String)? {
    var decoder = ChunkedDecoder()
    var data: [UInt8] = []
    let bytes = Array(text.utf8)
    var position = 0
    while position < bytes.count, !decoder.isDone {
      let part = Array(bytes[position..<min(position + step, bytes.count)])
      let used = part.withUnsafeBytes { bytes in
        try? decoder.decode(bytes) {
          data += $0
          return true
        }
      }
      guard let used else { return nil }
      position += used
    }
    guard decoder.isDone else { return nil }
    return (
      String(decoding: data, as: UTF8.self), String(decoding: bytes[position...], as: UTF8.self)
    )
  }

  @Test(arguments: [1, 2, 3, 1000])
  func `chunks come together, however they are cut`(step: Int) throws {
    let text =
      "5\r\nhello\r\n00A;a=\"b c\";d\r\n, world in\r\n1\r\n!\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\nGET /"
    let found = try #require(decode(text, step: step))
    #expect(found.data == "hello, world in!" && found.rest == "GET /")
    #expect(decode("0\r\n\r\n", step: step)?.data == "")
  }

  @Test(arguments: [
    "", "\r\n", "x\r\n", "-1\r\n", "+1\r\na\r\n0\r\n\r\n", " 1\r\na\r\n0\r\n\r\n",
    "1 \r\na\r\n0\r\n\r\n", "0x1\r\na\r\n0\r\n\r\n", "1\na\r\n0\r\n\r\n", "1\r\na\n0\r\n\r\n",
    "1\r\nab\r\n0\r\n\r\n", "2\r\na\r\n0\r\n\r\n", "1\r\na0\r\n\r\n", "0\r\n\n", "0\r\nX\r\n\r\n",
    "0\r\n: a\r\n\r\n", "0\r\n a: b\r\n\r\n", "0\r\nX: a\u{0}\r\n\r\n", "1;\u{0}\r\na\r\n0\r\n\r\n",
    "1;a\rb\r\na\r\n0\r\n\r\n", "00000000000000001\r\na\r\n0\r\n\r\n",
    "FFFFFFFFFFFFFFFF\r\na\r\n0\r\n\r\n", "8000000000000000\r\na\r\n0\r\n\r\n",
    "11111111111111111111\r\na\r\n0\r\n\r\n", "5\r\nhell",
  ])
  func `what is malformed or not complete gives nothing`(text: String) {
    for step in [1, 1000] { #expect(decode(text, step: step) == nil, "\(text)") }
  }

  @Test func `extensions and trailers are bounded, however they are spread`() {
    let long = String(repeating: "a", count: 10_000)
    #expect(decode("1;\(long)\r\na\r\n0\r\n\r\n", step: 100) == nil)
    #expect(decode("0\r\nX: \(long)\r\n\r\n", step: 100) == nil)
    #expect(
      decode("0\r\n" + String(repeating: "X: a\r\n", count: 10_000) + "\r\n", step: 100) == nil)
    let spread = String(repeating: "1;aaaaaaaaaa\r\na\r\n", count: 1000)
    #expect(decode(spread + "0\r\n\r\n", step: 100) == nil)
  }

  @Test func `who has enough stops it`() throws {
    var decoder = ChunkedDecoder()
    let bytes = Array("3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n".utf8)
    let used = try bytes.withUnsafeBytes { try decoder.decode($0) { _ in false } }
    #expect(used == 6 && !decoder.isDone)
    // The decoder stopped before the line end that follows the data.
    let more = try bytes[6...].withUnsafeBytes { try decoder.decode($0) { _ in true } }
    #expect(more == bytes.count - 6 && decoder.isDone)
  }
}
