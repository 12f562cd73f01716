/// The words by which people find texts.
///
/// A text is folded (`TextFolding`) and split into runs of letters, marks and digits. A run of Han, kana or hangul, where
/// words are not separated, becomes the pairs of its characters and its last character: `東京都` becomes `東京`, `京都`
/// and `都`. So every pair and every single character of it can be found.
///
/// Both databases index these words and nothing else, so that they find the same.
package enum SearchWords {
  /// Words are cut to this many bytes. Postgres takes 2,046.
  package static let maximumWordBytes = 1000

  /// Returns the words of a text, in order.
  package static func split(_ text: String) -> [String] {
    var text = text
    // Most texts need no tables of characters.
    if let words = text.withUTF8(wordsOfASCII) { return words }
    var words: [String] = []
    for run in runs(in: TextFolding.fold(text).unicodeScalars) {
      switch run {
      case .word(let word): words.append(word)
      case .characters(let characters):
        for index in characters.indices.dropLast() {
          words.append(characters[index] + characters[index + 1])
        }
        words.append(characters[characters.count - 1])
      case .quote: break
      }
    }
    return words
  }

  /// Returns the words of a text without any other characters than those of ASCII; nil for other texts.
  private static func wordsOfASCII(_ text: UnsafeBufferPointer<UInt8>) -> [String]? {
    var words: [String] = []
    var word: [UInt8] = []
    for byte in text {
      switch byte {
      case 0x30...0x39, 0x61...0x7A: word.append(byte)
      case 0x41...0x5A: word.append(byte + 0x20)
      case 0x80...: return nil
      default:
        if !word.isEmpty {
          words.append(String(decoding: word.prefix(maximumWordBytes), as: UTF8.self))
        }
        word.removeAll(keepingCapacity: true)
      }
    }
    if !word.isEmpty {
      words.append(String(decoding: word.prefix(maximumWordBytes), as: UTF8.self))
    }
    return words
  }

  /// A piece of a folded text.
  enum Run: Equatable {
    case word(String)
    /// Characters of Han, kana or hangul, at least one. Each is a letter with the marks behind it.
    case characters([String])
    /// A quotation mark.
    case quote
  }

  /// Splits a folded text. Everything between the runs is dropped.
  static func runs(in text: String.UnicodeScalarView) -> [Run] {
    var splitter = Splitter()
    for scalar in text { splitter.take(scalar) }
    return splitter.finish()
  }

  /// Puts runs together, scalar by scalar.
  private struct Splitter {
    private var runs: [Run] = []
    private var word = String.UnicodeScalarView()
    private var wordBytes = 0
    private var characters: [String] = []

    mutating func take(_ scalar: Unicode.Scalar) {
      switch ScalarKind(scalar) {
      case .letter:
        endCharacters()
        wordBytes += UTF8.width(scalar)
        if wordBytes <= SearchWords.maximumWordBytes { word.append(scalar) }
      case .mark:
        // Marks belong to what is before them.
        if characters.isEmpty {
          wordBytes += UTF8.width(scalar)
          if wordBytes <= SearchWords.maximumWordBytes { word.append(scalar) }
        } else if characters[characters.count - 1].utf8.count < SearchWords.maximumWordBytes / 2 - 4
        {
          characters[characters.count - 1].unicodeScalars.append(scalar)
        }
      case .unseparated:
        endWord()
        characters.append(String(scalar))
      case .quote:
        end()
        runs.append(.quote)
      case .other: end()
      }
    }

    mutating func finish() -> [Run] {
      end()
      return runs
    }

    private mutating func end() {
      endWord()
      endCharacters()
    }

    private mutating func endWord() {
      if !word.isEmpty { runs.append(.word(String(word))) }
      word = String.UnicodeScalarView()
      wordBytes = 0
    }

    private mutating func endCharacters() {
      if !characters.isEmpty { runs.append(.characters(characters)) }
      characters = []
    }
  }
}

/// What a scalar of a folded text is for the search.
enum ScalarKind {
  /// A letter or digit of a script that separates words.
  case letter
  /// A combining mark.
  case mark
  /// A letter of Han, kana or hangul.
  case unseparated
  /// A quotation mark, which begins or ends a phrase in a query.
  case quote
  case other

  init(_ scalar: Unicode.Scalar) {
    let value = scalar.value
    if value < 0x80 {
      let isLetter = (0x61...0x7A).contains(value) || (0x30...0x39).contains(value)
      self = isLetter || (0x41...0x5A).contains(value) ? .letter : value == 0x22 ? .quote : .other
      return
    }
    if Self.isUnseparated(value) {
      self = .unseparated
      return
    }
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter,
      .decimalNumber, .letterNumber, .otherNumber:
      self = .letter
    case .nonspacingMark, .spacingMark, .enclosingMark: self = .mark
    // What keyboards of phones make of `"`.
    case .initialPunctuation, .finalPunctuation:
      self = (0x201C...0x201F).contains(value) ? .quote : .other
    default: self = .other
    }
  }

  /// Han, kana, bopomofo and hangul, by blocks: https://www.unicode.org/Public/UNIDATA/Blocks.txt
  private static func isUnseparated(_ value: UInt32) -> Bool {
    switch value {
    case 0x1100...0x11FF, 0x2E80...0x2FDF, 0x3005...0x3007, 0x3021...0x3029, 0x3031...0x3035,
      0x3038...0x303C, 0x3041...0x3096, 0x309D...0x309F, 0x30A1...0x30FA, 0x30FC...0x30FF,
      0x3105...0x312F, 0x3131...0x318E, 0x31A0...0x31BF, 0x31F0...0x31FF, 0x3400...0x4DBF,
      0x4E00...0x9FFF, 0xA960...0xA97F, 0xAC00...0xD7FB, 0xF900...0xFAFF, 0x1AFF0...0x1B16F,
      0x20000...0x323AF:
      true
    default: false
    }
  }
}
