package import Basics

/// A writer of numbers and texts as bytes, in network byte order.
package struct WireWriter {
  package init() {}

  package private(set) var bytes: [UInt8] = []

  package mutating func byte(_ value: UInt8) { bytes.append(value) }

  package mutating func integer<Value: FixedWidthInteger>(_ value: Value) {
    withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
  }

  package mutating func uuid(_ value: UUID) {
    integer(value.high)
    integer(value.low)
  }

  /// Writes a text, preceded by its length in bytes (32 bits).
  package mutating func text(_ value: String) {
    integer(UInt32(clamping: value.utf8.count))
    bytes.append(contentsOf: value.utf8)
  }

  /// Writes a byte, 0 for nil and 1 otherwise, followed by the value if there is one.
  package mutating func optional<Value>(_ value: Value?, _ write: (inout Self, Value) -> Void) {
    byte(value == nil ? 0 : 1)
    if let value { write(&self, value) }
  }

  /// Writes what `body` writes, preceded by its length in bytes (32 bits).
  package mutating func counted(_ body: (inout Self) -> Void) {
    let start = bytes.count
    integer(UInt32(0))
    body(&self)
    let length = UInt32(clamping: bytes.count - start - 4)
    withUnsafeBytes(of: length.bigEndian) { length in
      for index in 0..<4 { bytes[start + index] = length[index] }
    }
  }
}

/// A reader of what `WireWriter` wrote. The bytes may come from anywhere, so every read is checked. Once bytes are
/// missing, all further reads return nil.
package struct WireReader {
  private let bytes: ArraySlice<UInt8>
  private var position: Int

  package init(_ bytes: ArraySlice<UInt8>) {
    self.bytes = bytes
    position = bytes.startIndex
  }

  package var isAtEnd: Bool { position == bytes.endIndex }

  /// Reads this many bytes; nil if there are fewer.
  package mutating func take(_ count: Int) -> ArraySlice<UInt8>? {
    guard count >= 0, count <= bytes.endIndex - position else {
      position = bytes.endIndex
      return nil
    }
    defer { position += count }
    return bytes[position..<(position + count)]
  }

  package mutating func byte() -> UInt8? { take(1)?.first }

  package mutating func integer<Value: FixedWidthInteger>(_: Value.Type = Value.self) -> Value? {
    take(Value.bitWidth / 8)?.reduce(0) { $0 << 8 | Value(truncatingIfNeeded: $1) }
  }

  package mutating func uuid() -> UUID? {
    guard let high = integer(UInt64.self), let low = integer(UInt64.self) else { return nil }
    return UUID(high: high, low: low)
  }

  /// Reads a text, preceded by its length in bytes; nil if it is not UTF-8.
  package mutating func text() -> String? {
    counted().flatMap { String(validating: $0, as: UTF8.self) }
  }

  /// Reads a value that may be absent: `.some(nil)` if it is. The outer optional is nil if the bytes are not valid.
  package mutating func optional<Value>(_ read: (inout Self) -> Value?) -> Value?? {
    switch byte() {
    case 0: return .some(nil)
    case 1: return read(&self).map { .some($0) }
    default: return nil
    }
  }

  /// Reads bytes, preceded by their length (32 bits).
  package mutating func counted() -> ArraySlice<UInt8>? {
    guard let length = integer(UInt32.self) else { return nil }
    return take(Int(length))
  }
}
