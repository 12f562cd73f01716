/// The check whether a text is one emoji, as people use them for reactions.
package enum Emoji {
  /// The longest emoji, in bytes of UTF-8.
  package static let maximumBytes = 64

  /// Whether the text is one grapheme cluster that is shown as an emoji: `👍`, `👍🏽`, `❤️`, `🇫🇷`, `1️⃣` and sequences that
  /// are joined, but not `❤` without U+FE0F, which is shown as a letter, and not letters with accents.
  ///
  /// By Unicode Technical Standard 51, sections 1.4.3 to 1.4.9: https://www.unicode.org/reports/tr51/
  package static func isOne(_ text: String) -> Bool {
    guard text.utf8.count <= maximumBytes, text.count == 1 else { return false }
    var rest = Array(text.unicodeScalars)[...]
    if isFlag(rest) { return true }
    // Elements joined by U+200D ZERO WIDTH JOINER.
    while true {
      guard takeElement(&rest) else { return false }
      if rest.isEmpty { return true }
      guard rest.removeFirst() == joiner else { return false }
    }
  }

  private static let joiner: Unicode.Scalar = "\u{200D}"
  /// VARIATION SELECTOR-16: the character before it is shown as an emoji.
  private static let emojiSelector: Unicode.Scalar = "\u{FE0F}"
  private static let keycap: Unicode.Scalar = "\u{20E3}"
  /// WAVING BLACK FLAG, which tags turn into the flag of a region.
  private static let blackFlag: Unicode.Scalar = "\u{1F3F4}"
  private static let lastTag: Unicode.Scalar = "\u{E007F}"

  /// Two regional indicators.
  private static func isFlag(_ scalars: ArraySlice<Unicode.Scalar>) -> Bool {
    scalars.count == 2 && scalars.allSatisfy(isRegionalIndicator)
  }

  private static func isRegionalIndicator(_ scalar: Unicode.Scalar) -> Bool {
    (0x1F1E6...0x1F1FF).contains(scalar.value)
  }

  /// Removes one element from the front: a character that is shown as an emoji, with what belongs to it. Returns false
  /// if there is none.
  private static func takeElement(_ rest: inout ArraySlice<Unicode.Scalar>) -> Bool {
    guard let first = rest.popFirst(), first.properties.isEmoji, !isRegionalIndicator(first) else {
      return false
    }
    let isSelected = rest.first == emojiSelector
    if isSelected { rest.removeFirst() }
    // Digits, `#` and `*` are emoji only under a keycap.
    if first.isASCII {
      guard isSelected, rest.first == keycap else { return false }
      rest.removeFirst()
      return true
    }
    if let modifier = rest.first, modifier.properties.isEmojiModifier,
      first.properties.isEmojiModifierBase
    {
      rest.removeFirst()
    } else if !isSelected, !first.properties.isEmojiPresentation {
      return false
    }
    return first != blackFlag || takeTags(&rest)
  }

  /// Removes the tags of a flag of a region. Returns false if they do not end as they must.
  private static func takeTags(_ rest: inout ArraySlice<Unicode.Scalar>) -> Bool {
    var last: Unicode.Scalar?
    while let scalar = rest.first, (0xE0020...0xE007F).contains(scalar.value), last != lastTag {
      last = rest.removeFirst()
    }
    return last == nil || last == lastTag
  }
}
