/// Returns whether the bytes are well-formed UTF-8 (Unicode 3.9, table 3-7). Checks ASCII eight bytes at a time.
func isValidUTF8(_ bytes: UnsafeRawBufferPointer) -> Bool {
  var index = 0
  let count = bytes.count
  while index < count {
    if index + 8 <= count,
      bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self) & 0x8080_8080_8080_8080 == 0
    {
      index += 8
      continue
    }
    let first = bytes[index]
    if first < 0x80 {
      index += 1
      continue
    }
    let length: Int
    var second: ClosedRange<UInt8> = 0x80...0xBF
    switch first {
    case 0xC2...0xDF: length = 2
    case 0xE0: (length, second) = (3, 0xA0...0xBF)
    case 0xED: (length, second) = (3, 0x80...0x9F)
    case 0xE1...0xEF: length = 3
    case 0xF0: (length, second) = (4, 0x90...0xBF)
    case 0xF1...0xF3: length = 4
    case 0xF4: (length, second) = (4, 0x80...0x8F)
    default: return false
    }
    guard index + length <= count, second.contains(bytes[index + 1]) else { return false }
    for offset in 2..<max(2, length) where !(0x80...0xBF).contains(bytes[index + offset]) {
      return false
    }
    index += length
  }
  return true
}

/// An incremental form of `isValidUTF8`, for text that arrives in parts. A value.
struct UTF8Validator: Equatable {
  /// The number of continuation bytes that the last character still needs, and the range of the next one.
  private var needed = 0
  private var next: ClosedRange<UInt8> = 0x80...0xBF

  /// Whether the text so far ends with a complete character.
  var isComplete: Bool { needed == 0 }

  /// Takes the next byte. Returns false if it makes the text malformed.
  mutating func take(_ byte: UInt8) -> Bool {
    if needed > 0 {
      guard next.contains(byte) else { return false }
      needed -= 1
      next = 0x80...0xBF
      return true
    }
    switch byte {
    case 0...0x7F: return true
    case 0xC2...0xDF: needed = 1
    case 0xE0: (needed, next) = (2, 0xA0...0xBF)
    case 0xED: (needed, next) = (2, 0x80...0x9F)
    case 0xE1...0xEF: needed = 2
    case 0xF0: (needed, next) = (3, 0x90...0xBF)
    case 0xF1...0xF3: needed = 3
    case 0xF4: (needed, next) = (3, 0x80...0x8F)
    default: return false
    }
    return true
  }
}
