import TestSupport
import Testing

@testable import Words

@Suite struct SearchWordsTests {
  private static let texts: [(text: String, words: [String])] = [
    ("", []),
    ("  ...!? -- (\"*\") ", []),
    ("Hello, World!", ["hello", "world"]),
    ("foo.bar_baz-qux", ["foo", "bar", "baz", "qux"]),
    ("don't C++ v1.2.3", ["don", "t", "c", "v1", "2", "3"]),
    ("Crème Brûlée ÉTÉ", ["creme", "brulee", "ete"]),
    ("Straße ﬁn Ⅷ ㎏ ½", ["strasse", "fin", "viii", "kg", "1", "2"]),
    ("東京都", ["東京", "京都", "都"]),
    ("東", ["東"]),
    ("iPhone東京で買う", ["iphone", "東京", "京で", "で買", "買う", "う"]),
    ("ｶﾞｲﾄﾞ", ["ガイ", "イド", "ド"]),
    ("한국어 말", ["한국", "국어", "어", "말"]),
    ("мир Ёлка ΑΣΜΑ", ["мир", "елка", "ασμα"]),
    ("हिन्दी", ["हिन्दी"]),
    ("👍🏽 ❤️ 🇫🇷", []),
    ("a\u{200B}b\u{00AD}c", ["abc"]),
    ("\u{2}x\u{3}", ["x"]),
    ("naïve\r\nline", ["naive", "line"]),
  ]

  @Test(arguments: texts) func `texts are split into words`(text: String, words: [String]) {
    #expect(SearchWords.split(text) == words)
  }

  @Test func `texts in ASCII have the same words as beside other characters`() {
    var random = SeededRandom(seed: 7)
    for _ in 0..<2000 {
      let length = Int(random.next() % 60)
      let text = String(
        decoding: (0..<length).map { _ in UInt8(truncatingIfNeeded: random.next() & 0x7F) },
        as: UTF8.self)
      #expect(SearchWords.split(text) + ["я"] == SearchWords.split(text + " я"))
    }
  }

  @Test func `very long words are cut, at a character`() {
    let words = SearchWords.split(String(repeating: "x", count: 5000) + " y")
    #expect(words == [String(repeating: "x", count: 1000), "y"])
    let greek = SearchWords.split(String(repeating: "λ", count: 5000))
    #expect(greek == [String(repeating: "λ", count: 500)])
    let marked = SearchWords.split("東" + String(repeating: "\u{0903}", count: 5000) + "京")
    #expect(marked.allSatisfy { $0.utf8.count <= SearchWords.maximumWordBytes })
  }

  /// Terms as text: words joined by `+`, `*` behind a prefix.
  private func terms(_ query: String) -> [String]? {
    SearchPattern(query)?.terms.map {
      $0.words.joined(separator: "+") + ($0.isPrefix ? "*" : "")
    }
  }

  private static let queries: [(query: String, terms: [String]?)] = [
    ("hello", ["hello*"]),
    ("Hello wor", ["hello", "wor*"]),
    ("hello AND -world OR \"", ["hello", "and", "world", "or*"]),
    ("NEAR(a b)^2 words:x*", ["near", "a", "b", "2", "words", "x*"]),
    ("\"hello world\"", ["hello+world"]),
    ("\"hello world\" again", ["hello+world", "again*"]),
    ("again \"hello world\"", ["again", "hello+world"]),
    ("“hello world” x", ["hello+world", "x*"]),
    ("\"unclosed phrase", ["unclosed", "phrase*"]),
    ("\"\" \"!\" x", ["x*"]),
    ("'; DROP TABLE entries; --", ["drop", "table", "entries*"]),
    ("東京都", ["東京+京都*"]),
    ("東", ["東*"]),
    ("東 hello", ["東*", "hello*"]),
    ("\"東京 tower\"", ["東京+京+tower"]),
    ("\"tower 東\"", ["tower+東*"]),
    ("iPhone東京", ["iphone", "東京*"]),
    ("!! ??", nil),
    (String(repeating: "👍", count: 200), nil),
    ("\"\"", nil),
  ]

  @Test(arguments: queries) func `queries are words without operators`(
    query: String, expected: [String]?
  ) {
    #expect(terms(query) == expected)
  }

  private func marked(_ text: String, _ query: String) -> String? {
    SearchPattern(query).map {
      Snippet.make(of: text, for: $0).replacing("\u{2}", with: "[").replacing("\u{3}", with: "]")
    }
  }

  @Test func `hits are marked in the text`() {
    #expect(marked("Hello, World!", "wor") == "Hello, [World]!")
    #expect(marked("Crème brûlée", "CREME") == "[Crème] brûlée")
    #expect(marked("to be or not to be", "\"to be\"") == "[to be] or not [to be]")
    #expect(marked("to be or not to be", "be to") == "[to] [be] or not [to] [be]")
    #expect(marked("私は東京タワーへ行く", "東京") == "私は[東京]タワーへ行く")
    #expect(marked("私は東京タワーへ行く", "東京タワー") == "私は[東京タワー]へ行く")
    #expect(marked("私は東京へ", "京") == "私は東[京]へ")
    #expect(marked("私は東京", "京") == "私は東[京]")
    #expect(marked("a \u{2}b\u{3} c", "b") == "a [b] c")
    #expect(marked("nothing here", "else") == "nothing here")
    #expect(marked("naïve", "naive") == "[naïve]")
    #expect(marked("ﬁn de ﬁl", "fin") == "[ﬁn] de ﬁl")
  }

  @Test func `of a long text the place of the first hit is shown`() {
    let text =
      String(repeating: "lorem ", count: 1000) + "needle "
      + String(repeating: "ipsum ", count: 1000)
    let snippet = marked(text, "needle") ?? ""
    #expect(snippet.contains("[needle]"))
    #expect(snippet.first == "…" && snippet.last == "…")
    #expect(snippet.count == 204)
    #expect(marked(String(repeating: "a", count: 5000), "b")?.count == 201)
    // A hit that is longer than what is shown.
    #expect(marked(String(repeating: "a", count: 5000), "a")?.hasPrefix("[aaa") == true)
  }

  /// Whatever a text is, a query of its words finds it, and the snippet shows at least one hit.
  @Test(arguments: texts) func `a text is found by its own words`(text: String, words: [String]) {
    guard let pattern = SearchPattern(text) else {
      #expect(words.isEmpty)
      return
    }
    let found = SearchWords.split(text)
    for term in pattern.terms {
      let isThere = found.indices.contains { start in
        start + term.words.count <= found.count
          && term.words.indices.allSatisfy { offset in
            let isLast = offset == term.words.count - 1
            return isLast && term.isPrefix
              ? found[start + offset].hasPrefix(term.words[offset])
              : found[start + offset] == term.words[offset]
          }
      }
      #expect(isThere, "\(term)")
    }
    #expect(marked(text, text)?.contains("[") == true)
  }
}
