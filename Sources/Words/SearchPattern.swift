/// What somebody searches for, as words. A text matches if it has all terms.
package struct SearchPattern: Sendable, Equatable {
  /// Words that follow each other in the text.
  package struct Term: Sendable, Equatable {
    /// As `SearchWords` splits texts; at least one.
    package let words: [String]
    /// Whether the last word may go on in the text.
    package let isPrefix: Bool
  }

  /// At least one.
  package let terms: [Term]

  /// Reads a query: words, and phrases in quotation marks. The last word is a prefix, unless it ends a phrase. Other
  /// characters only separate words, so there are no operators. Nil if there is no word.
  package init?(_ query: String) {
    var terms: [Term] = []
    let runs = SearchWords.runs(in: TextFolding.fold(query).unicodeScalars)[...]
    var rest = runs
    while let run = rest.popFirst() {
      if run == .quote, let end = rest.firstIndex(of: .quote) {
        if let phrase = Self.term(rest[..<end], isPrefix: false) { terms.append(phrase) }
        rest = rest[(end + 1)...]
      } else if let term = Self.term([run], isPrefix: !rest.contains { $0 != .quote }) {
        terms.append(term)
      }
    }
    if terms.isEmpty { return nil }
    self.terms = terms
  }

  /// Whether a text with these words (`SearchWords`) has all terms.
  package func matches(_ words: [String]) -> Bool {
    terms.allSatisfy { term in
      guard words.count >= term.words.count else { return false }
      return (0...words.count - term.words.count).contains { start in
        term.words.indices.allSatisfy { offset in
          let (wanted, found) = (term.words[offset], words[start + offset])
          return offset == term.words.count - 1 && term.isPrefix
            ? found.utf8.starts(with: wanted.utf8) : found.utf8.elementsEqual(wanted.utf8)
        }
      }
    }
  }

  private static func term(_ runs: ArraySlice<SearchWords.Run>, isPrefix: Bool) -> Term? {
    var words: [String] = []
    var isPrefix = isPrefix
    for (index, run) in zip(runs.indices, runs) {
      let isLast = index == runs.endIndex - 1
      switch run {
      case .word(let word): words.append(word)
      case .characters(let characters):
        for pair in characters.indices.dropLast() {
          words.append(characters[pair] + characters[pair + 1])
        }
        // In the text the run may go on behind these characters. In the middle of a phrase it may not.
        if characters.count == 1 || !isLast { words.append(characters[characters.count - 1]) }
        if isLast, characters.count == 1 { isPrefix = true }
      case .quote: break
      }
    }
    return words.isEmpty ? nil : Term(words: words, isPrefix: isPrefix)
  }
}
