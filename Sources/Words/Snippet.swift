/// A part of a text in which what was searched for is marked.
package enum Snippet {
  /// Stand around a hit. The text itself is shown without them.
  private static let begin: Unicode.Scalar = "\u{2}"
  private static let end: Unicode.Scalar = "\u{3}"

  /// About how many characters are shown, of them so many before the first hit.
  private static let length = 200
  private static let lead = 60

  /// Returns a part of the text around the first place that matches a term, with all hits in it between U+0002 and U+0003.
  /// Where the text goes on, there is an ellipsis. Without a hit it is the beginning of the text.
  package static func make(of text: String, for pattern: SearchPattern) -> String {
    let characters = Array(text)
    let hits = hits(in: words(of: characters), pattern)
    let window = window(around: hits.first, count: characters.count)
    var marks: [Int: Unicode.Scalar] = [:]
    var ends: Set<Int> = []
    for hit in merged(hits) {
      let (low, high) = (
        max(hit.lowerBound, window.lowerBound), min(hit.upperBound, window.upperBound)
      )
      guard low < high else { continue }
      marks[low] = begin
      ends.insert(high)
    }
    var snippet = String.UnicodeScalarView()
    if window.lowerBound > 0 { snippet.append("…") }
    for index in window {
      if ends.contains(index) { snippet.append(end) }
      if let mark = marks[index] { snippet.append(mark) }
      for scalar in characters[index].unicodeScalars where scalar != begin && scalar != end {
        snippet.append(scalar)
      }
    }
    if ends.contains(window.upperBound) { snippet.append(end) }
    if window.upperBound < characters.count { snippet.append("…") }
    return String(snippet)
  }

  private static func window(around hit: Range<Int>?, count: Int) -> Range<Int> {
    guard count > length else { return 0..<count }
    let start = min(max(0, (hit?.lowerBound ?? 0) - lead), count - length)
    return start..<start + length
  }

  // MARK: Hits

  /// A word of the text, and the characters that it comes from.
  private struct Word {
    let text: String
    let place: Range<Int>
    /// Whether it is a pair of characters, of which a hit may be the first alone.
    var isPair = false
  }

  /// Returns the words as `SearchWords` has them. Each character is folded by itself, so that its place is known.
  private static func words(of characters: [Character]) -> [Word] {
    var words: [Word] = []
    var word = String.UnicodeScalarView()
    var wordPlace = 0..<0
    var run: [(text: String, place: Int)] = []
    func endWord() {
      if !word.isEmpty { words.append(Word(text: String(word), place: wordPlace)) }
      word = String.UnicodeScalarView()
    }
    func endRun() {
      for (index, character) in run.enumerated() {
        guard index + 1 < run.count else {
          words.append(Word(text: character.text, place: character.place..<character.place + 1))
          continue
        }
        words.append(
          Word(
            text: character.text + run[index + 1].text,
            place: character.place..<run[index + 1].place + 1, isPair: true))
      }
      run = []
    }
    for (index, character) in characters.enumerated() {
      for scalar in TextFolding.fold(String(character)).unicodeScalars {
        switch ScalarKind(scalar) {
        case .mark where !run.isEmpty: run[run.count - 1].text.unicodeScalars.append(scalar)
        case .letter, .mark:
          endRun()
          wordPlace = (word.isEmpty ? index : wordPlace.lowerBound)..<index + 1
          word.append(scalar)
        case .unseparated:
          endWord()
          run.append((String(scalar), index))
        case .quote, .other:
          endWord()
          endRun()
        }
      }
    }
    endWord()
    endRun()
    return words
  }

  private static func hits(in words: [Word], _ pattern: SearchPattern) -> [Range<Int>] {
    var hits: [Range<Int>] = []
    for term in pattern.terms {
      guard words.count >= term.words.count else { continue }
      for start in 0...words.count - term.words.count {
        let isHit = term.words.indices.allSatisfy { offset in
          let (wanted, found) = (term.words[offset], words[start + offset].text)
          return offset == term.words.count - 1 && term.isPrefix
            ? found.utf8.starts(with: wanted.utf8) : found.utf8.elementsEqual(wanted.utf8)
        }
        if isHit {
          let last = words[start + term.words.count - 1]
          let isFirstAlone =
            last.isPair && !last.text.utf8.elementsEqual((term.words.last ?? "").utf8)
          let end = isFirstAlone ? last.place.lowerBound + 1 : last.place.upperBound
          hits.append(words[start].place.lowerBound..<end)
        }
      }
    }
    return hits.sorted { ($0.lowerBound, $0.upperBound) < ($1.lowerBound, $1.upperBound) }
  }

  /// Joins hits that overlap.
  private static func merged(_ hits: [Range<Int>]) -> [Range<Int>] {
    var joined: [Range<Int>] = []
    for hit in hits {
      if let last = joined.last, hit.lowerBound < last.upperBound {
        joined[joined.count - 1] = last.lowerBound..<max(last.upperBound, hit.upperBound)
      } else {
        joined.append(hit)
      }
    }
    return joined
  }
}
