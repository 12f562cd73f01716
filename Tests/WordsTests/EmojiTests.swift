import Testing

@testable import Words

struct EmojiTests {
  @Test(arguments: [
    "👍", "👍🏽", "❤️", "☝🏽", "☝️", "1️⃣", "#️⃣", "*️⃣", "🇫🇷", "👨‍👩‍👧‍👦", "❤️‍🔥", "🏳️‍🌈", "🧑🏽‍🚀", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "©️", "🏽", "🫠", "👩‍❤️‍👨",
  ])
  func `one emoji`(_ text: String) { #expect(Emoji.isOne(text)) }

  @Test(arguments: [
    "", "a", "1", "#", "❤", "☝", "©", "1⃣", "1️", "é", "👍👍", "👍a", " 👍", "👍\u{FE0E}", "❤\u{FE0E}",
    "👍\u{301}", "🇫", "🇫🇷🇫🇷",
    "a\u{FE0F}", "\u{200D}", "👍\u{200D}", "❤‍🔥", "\u{FE0F}", "\u{0}", "あ", "한", "👍\u{20E3}",
    "🏴\u{E0067}", "a\u{200D}👍",
    "👍\u{1F3FD}\u{1F3FD}",
  ])
  func `anything else`(_ text: String) { #expect(!Emoji.isOne(text)) }

  /// One grapheme cluster, but longer than 64 bytes.
  @Test func `twenty joined people`() {
    let people = Array(repeating: "🧑", count: 20).joined(separator: "\u{200D}")
    #expect(people.count == 1)
    #expect(!Emoji.isOne(people))
    #expect(Emoji.isOne(Array(repeating: "🧑", count: 8).joined(separator: "\u{200D}")))
  }
}
