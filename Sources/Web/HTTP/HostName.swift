internal import Basics

/// The host and port of a Host header or of a request target (RFC 3986, 3.2.2 and 3.2.3): `name`, `1.2.3.4` or
/// `[::1]`, each with or without `:port`.
enum HostName {
  /// Whether it is valid and not empty: HTTP addresses always have a host (RFC 9110, 4.2.1).
  static func isValid(_ text: ArraySlice<UInt8>) -> Bool {
    let host: ArraySlice<UInt8>
    let port: ArraySlice<UInt8>
    if text.first == UInt8(ascii: "[") {
      guard let end = text.firstIndex(of: UInt8(ascii: "]")) else { return false }
      let address = String(decoding: text[(text.startIndex + 1)..<end], as: UTF8.self)
      guard address.contains(":"), IPAddress(address) != nil else { return false }
      return isPort(text[(end + 1)...])
    }
    let colon = text.firstIndex(of: UInt8(ascii: ":")) ?? text.endIndex
    host = text[..<colon]
    port = text[colon...]
    return !host.isEmpty && isName(host) && isPort(port)
  }

  /// Accepts nothing, or a colon with a port of at most five digits.
  private static func isPort(_ text: ArraySlice<UInt8>) -> Bool {
    guard let colon = text.first else { return true }
    let digits = text.dropFirst()
    guard colon == UInt8(ascii: ":"), digits.count <= 5,
      digits.allSatisfy({ (48...57).contains($0) })
    else { return false }
    return digits.isEmpty || UInt16(String(decoding: digits, as: UTF8.self)) != nil
  }

  private static func isName(_ text: ArraySlice<UInt8>) -> Bool {
    var rest = text
    while let byte = rest.popFirst() {
      if byte == UInt8(ascii: "%") {
        guard let high = rest.popFirst(), let low = rest.popFirst(),
          hexDigit(high) != nil, hexDigit(low) != nil
        else { return false }
      } else if !isNameByte(byte) {
        return false
      }
    }
    return true
  }

  /// Unreserved characters, and the delimiters that names may contain.
  private static func isNameByte(_ byte: UInt8) -> Bool {
    switch byte {
    case 48...57, 65...90, 97...122: true
    default: Self.signs.contains(byte)
    }
  }

  private static let signs = Array("-._~!$&'()*+,;=".utf8)
}
