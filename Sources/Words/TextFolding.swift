internal import CUTF8Proc

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// The form in which texts are compared when people search: compatibility forms, case and accents make no difference.
package enum TextFolding {
  /// Returns the text in Unicode's form NFKC with full case folding, without invisible characters, and without the
  /// accents of Latin, Greek and Cyrillic letters. Marks of other scripts stay, because there they are vowels or make
  /// other letters.
  ///
  /// By utf8proc: https://juliastrings.github.io/utf8proc/doc/
  package static func fold(_ text: String) -> String {
    // Most texts need no table.
    if text.utf8.allSatisfy({ $0 < 0x80 }) { return text.lowercased() }
    var bare = String.UnicodeScalarView()
    for scalar in decomposed(text).unicodeScalars where !isAccent(scalar) { bare.append(scalar) }
    return composed(String(bare))
  }

  /// The blocks of combining marks that stand above and below letters:
  /// https://www.unicode.org/charts/ (Combining Diacritical Marks, and its extensions and supplements)
  private static func isAccent(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0x0300...0x036F, 0x1AB0...0x1AFF, 0x1DC0...0x1DFF, 0x20D0...0x20FF: true
    default: false
    }
  }

  private static func decomposed(_ text: String) -> String {
    map(
      text,
      [UTF8PROC_STABLE, UTF8PROC_DECOMPOSE, UTF8PROC_COMPAT, UTF8PROC_CASEFOLD, UTF8PROC_IGNORE])
  }

  private static func composed(_ text: String) -> String {
    map(text, [UTF8PROC_STABLE, UTF8PROC_COMPOSE])
  }

  /// `utf8proc_map`. Returns the text itself if memory is short: it is found by its own form then.
  private static func map(_ text: String, _ options: [utf8proc_option_t]) -> String {
    var text = text
    let chosen = options.reduce(0) { $0 | UInt32($1.rawValue) }
    let mapped = text.withUTF8 { bytes -> String? in
      var result: UnsafeMutablePointer<UInt8>?
      let count = utf8proc_map(
        bytes.baseAddress, bytes.count, &result, utf8proc_option_t(rawValue: numericCast(chosen)))
      defer { free(result) }
      guard count >= 0, let result else { return nil }
      return String(decoding: UnsafeBufferPointer(start: result, count: count), as: UTF8.self)
    }
    return mapped ?? text
  }
}
