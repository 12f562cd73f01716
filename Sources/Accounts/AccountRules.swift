/// The limits of an account's properties.
enum AccountRules {
  /// In Unicode scalars.
  static let nameLength = 1...120
  /// In Unicode scalars.
  static let passwordLength = 8...256
  /// In Unicode scalars; the upper bound also in bytes (RFC 5321, 4.5.3.1.3).
  static let emailLength = 3...254

  /// Accepts one @ with something on both sides, without blanks and control characters. Only a mail server knows the
  /// rest.
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
