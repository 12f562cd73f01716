#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

// The members of `String` run for every message. The standard library's generic functions for this are not specialized
// for bytes and would cost more than parsing a frame.

extension String {
  /// Decodes UTF-8; nil if the bytes are not valid UTF-8.
  package init?(utf8 bytes: UnsafeBufferPointer<UInt8>) {
    self.init(decoding: bytes, as: UTF8.self)
    guard let start = bytes.baseAddress else { return }
    // Decoding has replaced invalid bytes, so the text then differs from them.
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
  /// Returns the text without spaces, tabs, carriage returns and CR LF pairs at both ends. A line feed alone stays.
  package func trimmingBlanks() -> Substring {
    let isBlank: (Character) -> Bool = { $0 == " " || $0 == "\t" || $0 == "\r" || $0 == "\r\n" }
    var text = Substring(self)
    while let first = text.first, isBlank(first) { text.removeFirst() }
    while let last = text.last, isBlank(last) { text.removeLast() }
    return text
  }
}
