/// What an account's members may be.
enum AccountRules {
  /// In characters.
  static let nameLength = 1...120
  /// In characters.
  static let passwordLength = 8...256
  /// In characters, and at the top in bytes as well (RFC 5321, 4.5.3.1.3).
  static let emailLength = 3...254

  /// One @ with something on both sides, no blanks, no control characters: the rest is the mail server's to know.
  static func isEmailAddress(_ text: String) -> Bool {
    let parts = text.split(separator: "@", omittingEmptySubsequences: false)
    return parts.count == 2 && !parts.contains(where: \.isEmpty)
      && emailLength.contains(text.count) && text.utf8.count <= emailLength.upperBound
      && !text.contains(where: \.isWhitespace)
      && !text.unicodeScalars.contains { $0.properties.generalCategory == .control }
  }

  static func isName(_ text: String) -> Bool {
    nameLength.contains(text.count) && !text.unicodeScalars.contains("\u{0}")
  }
}
