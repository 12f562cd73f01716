/// An encoder of frames as a server sends them: final and unmasked (RFC 6455, 5.1).
package enum WebSocketFrames {
  /// Appends the header of a text frame. The caller must append its payload of `count` bytes.
  @inline(__always)
  package static func appendTextHeader(count: Int, to output: inout [UInt8]) {
    appendHeader(opcode: 0x81, count: count, to: &output)
  }

  /// Appends a whole text frame.
  package static func appendText(_ payload: [UInt8], to output: inout [UInt8]) {
    appendTextHeader(count: payload.count, to: &output)
    output.append(contentsOf: payload)
  }

  /// Returns how many bytes of a whole frame precede its payload; 0 if `frame` is too short for a header.
  package static func headerBytes(of frame: [UInt8]) -> Int {
    guard frame.count > 1 else { return 0 }
    return switch frame[1] {
    case 126: 4
    case 127: 10
    default: 2
    }
  }

  static func control(opcode: UInt8, _ payload: [UInt8]) -> [UInt8] {
    var frame: [UInt8] = []
    // A control frame has at most 125 bytes of payload. The decoder has checked that of a peer's ping, which is
    // echoed.
    appendHeader(opcode: 0x80 | opcode, count: payload.count, to: &frame)
    frame.append(contentsOf: payload)
    return frame
  }

  static func ping() -> [UInt8] { control(opcode: 9, []) }
  static func pong(_ payload: [UInt8]) -> [UInt8] { control(opcode: 10, payload) }

  static func close(code: UInt16, reason: String) -> [UInt8] {
    var payload = [UInt8(code >> 8), UInt8(code & 0xFF)]
    payload.append(contentsOf: reason.utf8.prefix(123))
    return control(opcode: 8, payload)
  }

  private static func appendHeader(opcode: UInt8, count: Int, to output: inout [UInt8]) {
    output.append(opcode)
    if count < 126 {
      output.append(UInt8(count))
    } else if count < 65_536 {
      output.append(126)
      output.append(UInt8(count >> 8))
      output.append(UInt8(count & 0xFF))
    } else {
      output.append(127)
      for shift in stride(from: 56, through: 0, by: -8) {
        output.append(UInt8(truncatingIfNeeded: count >> shift))
      }
    }
  }
}
