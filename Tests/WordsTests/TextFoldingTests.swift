import Testing
import Words

@Suite struct TextFoldingTests {
  @Test(arguments: [
    ("Straße", "strasse"), ("STRASSE", "strasse"), ("Café", "cafe"), ("cafe\u{301}", "cafe"),
    ("ﬁne", "fine"), ("Ｆｕｌｌ", "full"), ("①", "1"), ("ΣΊΣΥΦΟΣ", "σισυφοσ"), ("ς", "σ"),
    ("ё", "е"), ("İ", "i"), ("Ünïcödé", "unicode"), ("re\u{AD}sume\u{301}", "resume"), ("", ""),
    // Marks that make other letters stay, and syllables are composed.
    ("か\u{3099}", "が"), ("ガ", "ガ"), ("ｶﾞ", "ガ"), ("कि", "कि"), ("\u{1112}\u{1161}\u{11AB}", "한"),
    ("👍🏽", "👍🏽"),
  ])
  func `case, accents and compatibility forms make no difference`(text: String, folded: String) {
    #expect(TextFolding.fold(text) == folded)
    #expect(Array(TextFolding.fold(text).unicodeScalars) == Array(folded.unicodeScalars))
    #expect(TextFolding.fold(folded) == folded)
  }
}
