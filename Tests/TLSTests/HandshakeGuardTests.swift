import TestSupport
import Testing

@testable import TLS

/// The inspection of a client's handshake before OpenSSL sees it.
@Suite struct HandshakeGuardTests {
  private func record(_ kind: UInt8, _ payload: [UInt8]) -> [UInt8] {
    [kind, 3, 3, UInt8(payload.count >> 8), UInt8(payload.count & 0xFF)] + payload
  }

  private func message(announcing length: Int, _ body: [UInt8] = []) -> [UInt8] {
    [1, UInt8(length >> 16), UInt8(length >> 8 & 0xFF), UInt8(length & 0xFF)] + body
  }

  /// Feeds bytes in pieces, and returns where records ended.
  private func ends(
    of bytes: [UInt8], pieces: Int, by guarding: inout HandshakeGuard
  ) throws -> [Int] {
    var ends: [Int] = []
    var position = 0
    while position < bytes.count {
      let piece = bytes[position..<min(position + pieces, bytes.count)]
      let count = try piece.withUnsafeBytes { try guarding.next($0) }
      #expect(count > 0 && count <= piece.count)
      position += count
      if count < piece.count { ends.append(position) }
    }
    return ends
  }

  @Test func `a message may go over records, and a record may have several`() throws {
    let body = [UInt8](repeating: 7, count: 300)
    let two = message(announcing: 300, body) + message(announcing: 300, body)
    let bytes =
      record(22, Array(two[..<2])) + record(22, Array(two[2..<400]))
      + record(22, Array(two[400...]))
    for pieces in [1, 2, 3, 5, 64, 10_000] {
      var guarding = HandshakeGuard()
      _ = try ends(of: bytes, pieces: pieces, by: &guarding)
      #expect(!guarding.hasChangedCipher)
    }
    var guarding = HandshakeGuard()
    #expect(try ends(of: bytes, pieces: 10_000, by: &guarding) == [7, 7 + 5 + 398])
  }

  @Test(arguments: [16 * 1024 + 1, 131_000, 0xFF_FFFF])
  func `a message that announces too much is refused at its header`(length: Int) throws {
    let header = message(announcing: length)
    for bytes in [
      record(22, header), header.flatMap { record(22, [$0]) },
      record(22, message(announcing: 2, [0, 0]) + header),
    ] {
      for pieces in [1, 4, 1000] {
        var guarding = HandshakeGuard()
        #expect(throws: TLSError.self) { try ends(of: bytes, pieces: pieces, by: &guarding) }
      }
    }
    var guarding = HandshakeGuard()
    #expect(throws: Never.self) {
      try ends(of: record(22, message(announcing: 16 * 1024)), pieces: 9, by: &guarding)
    }
  }

  @Test func `other records are not looked into`() throws {
    for kind: UInt8 in [20, 21, 23, 71] {
      var guarding = HandshakeGuard()
      _ = try ends(of: record(kind, message(announcing: 0xFF_FFFF)), pieces: 3, by: &guarding)
      #expect(guarding.hasChangedCipher == (kind == 20))
    }
  }

  @Test func `any bytes end or go on`() throws {
    var random = SeededRandom(seed: 7)
    for _ in 0..<2_000 {
      let bytes = (0..<Int.random(in: 1...400, using: &random)).map { _ in
        UInt8.random(in: 0...255, using: &random) & (Bool.random(using: &random) ? 0xFF : 0x16)
      }
      var guarding = HandshakeGuard()
      _ = try? ends(of: bytes, pieces: Int.random(in: 1...50, using: &random), by: &guarding)
    }
  }
}
