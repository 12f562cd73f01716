#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

// These run for every message. The standard library's generic functions for this are not specialized for bytes, and
// would cost more than parsing a frame.

extension String {
  /// Nil if the bytes are not UTF-8.
  package init?(utf8 bytes: UnsafeBufferPointer<UInt8>) {
    self.init(decoding: bytes, as: UTF8.self)
    guard let start = bytes.baseAddress else { return }
    // Bytes that are not UTF-8 were replaced.
    let isSame = withUTF8 { own in
      guard own.count == bytes.count, let ownStart = own.baseAddress else {
        return bytes.isEmpty
      }
      return memcmp(ownStart, start, bytes.count) == 0
    }
    if !isSame { return nil }
  }

  /// Whether the text contains U+0000.
  package var containsNUL: Bool {
    var text = self
    return text.withUTF8 { bytes in
      guard let start = bytes.baseAddress else { return false }
      return memchr(start, 0, bytes.count) != nil
    }
  }
}

extension StringProtocol {
  /// The text without spaces, tabs and carriage returns at both ends.
  package func trimmingBlanks() -> Substring {
    let isBlank: (Character) -> Bool = { $0 == " " || $0 == "\t" || $0 == "\r" || $0 == "\r\n" }
    var text = Substring(self)
    while let first = text.first, isBlank(first) { text.removeFirst() }
    while let last = text.last, isBlank(last) { text.removeLast() }
    return text
  }
}
