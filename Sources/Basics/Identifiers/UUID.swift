internal import Synchronization

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// A 128-bit universally unique identifier (RFC 9562), stored as two big-endian halves.
///
/// Any version is accepted from outside; the server itself makes version 7. UUIDs are not secrets. Their order has no
/// meaning to clients. Database rows are locked in this order, so that transactions do not deadlock.
package struct UUID: Hashable, Comparable, Sendable {
  package let high: UInt64
  package let low: UInt64

  package init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  /// The nil UUID, all zeros (RFC 9562, 5.9). It identifies nobody.
  package static let zero = UUID(high: 0, low: 0)

  package static func < (left: UUID, right: UUID) -> Bool {
    (left.high, left.low) < (right.high, right.low)
  }

  /// Parses the canonical 8-4-4-4-12 form in either case; nil for anything else.
  package init?(_ text: some StringProtocol) {
    // Parsed as bytes, because generic iteration over the text would call a function for each character.
    var text = String(text)
    guard let parsed = text.withUTF8({ Self.parse($0) }) else { return nil }
    self = parsed
  }

  private static func parse(_ text: UnsafeBufferPointer<UInt8>) -> UUID? {
    guard text.count == 36 else { return nil }
    var high: UInt64 = 0
    var low: UInt64 = 0
    for position in 0..<36 {
      let byte = text[position]
      if position == 8 || position == 13 || position == 18 || position == 23 {
        guard byte == UInt8(ascii: "-") else { return nil }
      } else {
        guard let digit = hexDigit(byte) else { return nil }
        if position < 18 {
          high = high << 4 | UInt64(digit)
        } else {
          low = low << 4 | UInt64(digit)
        }
      }
    }
    return UUID(high: high, low: low)
  }

  /// Makes a UUID of 16 bytes, most significant first; nil for any other number of bytes.
  package init?(bytes: [UInt8]) {
    guard bytes.count == 16 else { return nil }
    high = bytes[..<8].reduce(0) { $0 << 8 | UInt64($1) }
    low = bytes[8...].reduce(0) { $0 << 8 | UInt64($1) }
  }

  /// The 16 bytes, most significant first.
  package var bytes: [UInt8] {
    [UInt8](unsafeUninitializedCapacity: 16) { buffer, count in
      for index in 0..<8 {
        buffer[index] = UInt8(truncatingIfNeeded: high >> UInt64(56 - 8 * index))
        buffer[index + 8] = UInt8(truncatingIfNeeded: low >> UInt64(56 - 8 * index))
      }
      count = 16
    }
  }

  /// Appends the canonical lower-case form: exactly 36 bytes.
  package func appendText(to output: inout [UInt8]) {
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 36) { text in
      var position = 0
      for index in 0..<16 {
        if index == 4 || index == 6 || index == 8 || index == 10 {
          text[position] = UInt8(ascii: "-")
          position += 1
        }
        let half = index < 8 ? high : low
        let byte = UInt8(truncatingIfNeeded: half >> UInt64(56 - 8 * (index & 7)))
        text[position] = Self.digit(byte >> 4)
        text[position + 1] = Self.digit(byte & 15)
        position += 2
      }
      output.append(contentsOf: text)
    }
  }

  private static func digit(_ value: UInt8) -> UInt8 { value < 10 ? 48 + value : 87 + value }
}

extension UUID: CustomStringConvertible {
  package var description: String {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(36)
    appendText(to: &bytes)
    return String(decoding: bytes, as: UTF8.self)
  }
}

extension UUID {
  /// Makes a version 7 UUID: 48 bits of milliseconds, then 74 random bits (RFC 9562, 5.7).
  package static func version7(
    at time: Timestamp, using random: inout some RandomNumberGenerator
  ) -> UUID {
    let milliseconds = UInt64(truncatingIfNeeded: time.milliseconds) & 0xFFFF_FFFF_FFFF
    let high = milliseconds << 16 | 0x7000 | (random.next() & 0x0FFF)
    let low = (random.next() & 0x3FFF_FFFF_FFFF_FFFF) | 0x8000_0000_0000_0000
    return UUID(high: high, low: low)
  }

  /// When a version 7 UUID was made. Of no meaning for other versions.
  package var timestamp: Timestamp { Timestamp(milliseconds: Int64(high >> 16)) }

  /// Whether the version field is 7 (RFC 9562, 4.2).
  package var isVersion7: Bool { high & 0xF000 == 0x7000 }

  /// Makes a version 7 UUID with the present time and the system's random source.
  package static func version7() -> UUID {
    let now = Timestamp.now
    return randomBytes.withLock { version7(at: now, using: &$0) }
  }

  private static let randomBytes = Mutex(BufferedRandom())
}

/// Returns the value of an ASCII hexadecimal digit in either case, or nil.
package func hexDigit(_ byte: UInt8) -> UInt8? {
  switch byte {
  case 48...57: byte - 48
  case 65...70: byte - 55
  case 97...102: byte - 87
  default: nil
  }
}

/// The system's random source, read in blocks, because each read is a system call.
private struct BufferedRandom: RandomNumberGenerator {
  private var numbers = [UInt64](repeating: 0, count: 128)
  private var left = 0

  mutating func next() -> UInt64 {
    if left == 0 {
      numbers.withUnsafeMutableBytes { bytes in
        if let start = bytes.baseAddress { arc4random_buf(start, bytes.count) }
      }
      left = numbers.count
    }
    left -= 1
    return numbers[left]
  }
}
