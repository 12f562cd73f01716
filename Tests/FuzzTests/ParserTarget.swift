/// A parser of outside bytes, for fuzzers: `FuzzTests`, which changes valid inputs at random, and a coverage-guided
/// fuzzer (`Coverage/`).
struct ParserTarget: Sendable {
  /// One word, for the command line.
  let name: String
  let title: String
  /// Valid inputs, from which others are derived.
  let seeds: [[UInt8]]
  /// Tokens that mean something to the parser.
  let words: [[UInt8]]
  /// Whether at least one in a hundred of the changed seeds is valid. Otherwise the fuzzer would never get past the
  /// first byte.
  let isOftenGood: Bool
  /// Feeds the parser an input. Returns whether the input was valid. A parser must never trap.
  let feed: @Sendable (inout Choices, [UInt8]) -> Bool

  init(
    _ name: String, _ title: String, seeds: [String], words: [String], isOftenGood: Bool,
    _ feed: @escaping @Sendable (inout Choices, [UInt8]) -> Bool
  ) {
    self.name = name
    self.title = title
    self.seeds = seeds.map { Array($0.utf8) }
    self.words = words.map { Array($0.utf8) }
    self.isOftenGood = isOftenGood
    self.feed = feed
  }
}

/// What a fuzzer chooses besides the input: how it is divided into pieces, and how long things take.
struct Choices {
  private let next: () -> UInt64

  init(_ next: @escaping () -> UInt64) { self.next = next }

  /// A number below `count`.
  mutating func pick(_ count: Int) -> Int { Int(next() % UInt64(count)) }
}
