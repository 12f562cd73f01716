internal import CLibWebSockets

/// The answer to a WebSocket key: base64 of the SHA-1 of the key and RFC 6455's constant (4.2.2).
func webSocketAccept(key: String) -> String {
  let input = Array((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8)
  var digest = [UInt8](repeating: 0, count: 20)
  lws_SHA1(input, input.count, &digest)
  // 20 bytes are 28 characters and a terminator.
  var text = [CChar](repeating: 0, count: 32)
  digest.withUnsafeBytes { bytes in
    // Fails only where the output is too small.
    _ = lws_b64_encode_string(
      bytes.baseAddress?.assumingMemoryBound(to: CChar.self), 20, &text, Int32(text.count))
  }
  return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
}
