/// Base64 with the URL alphabet and without padding (RFC 4648, section 5).
package enum Base64URL {
  private static let alphabet = Array(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

  package static func encode(_ bytes: [UInt8]) -> String {
    var output: [UInt8] = []
    output.reserveCapacity((bytes.count * 4 + 2) / 3)
    var bits: UInt32 = 0
    var count: UInt32 = 0
    for byte in bytes {
      bits = bits << 8 | UInt32(byte)
      count += 8
      while count >= 6 {
        count -= 6
        output.append(alphabet[Int(bits >> count & 63)])
      }
    }
    if count > 0 { output.append(alphabet[Int(bits << (6 - count) & 63)]) }
    return String(decoding: output, as: UTF8.self)
  }

  /// Decodes a text. Returns nil for other characters, for padding, and for leftover bits that are not zero, so that
  /// each value has exactly one text.
  package static func decode(_ text: some StringProtocol) -> [UInt8]? {
    decode(Array(text.utf8)[...])
  }

  /// Decodes a text that is given as bytes, with the same result.
  static func decode(_ text: ArraySlice<UInt8>) -> [UInt8]? {
    var bits: UInt32 = 0
    var bitCount: UInt32 = 0
    var isValid = true
    let bytes = [UInt8](unsafeUninitializedCapacity: text.count * 3 / 4) { output, count in
      for character in text {
        let value = values[Int(character)]
        guard value != noValue else {
          isValid = false
          return
        }
        bits = (bits << 6 | UInt32(value)) & 0xFFFF
        bitCount += 6
        if bitCount >= 8 {
          bitCount -= 8
          output[count] = UInt8(truncatingIfNeeded: bits >> bitCount)
          count += 1
        }
      }
    }
    guard isValid, bitCount < 6, bits & (1 << bitCount - 1) == 0 else { return nil }
    return bytes
  }

  private static let noValue = UInt8.max
  /// The six bits that each character means, by its byte; `noValue` for all other bytes.
  private static let values: [UInt8] = {
    var values = [UInt8](repeating: noValue, count: 256)
    for (value, character) in alphabet.enumerated() { values[Int(character)] = UInt8(value) }
    return values
  }()
}
