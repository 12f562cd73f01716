/// A parser of untrusted bytes, as a target for two fuzzers: `FuzzTests`, which mutates valid inputs at random, and a
/// coverage-guided one (`Coverage/`).
struct ParserTarget: Sendable {
  /// The target's name on the command line: one word.
  let name: String
  let title: String
  /// The seed corpus: inputs, most of them valid, from which others are derived.
  let seeds: [[UInt8]]
  /// The dictionary: tokens that mean something to the parser.
  let words: [[UInt8]]
  /// Whether more than one in a hundred of the mutated inputs must be valid; if false, one valid input suffices.
  /// `FuzzTests` checks this, because inputs that are all refused at the first byte would test nothing.
  let isOftenGood: Bool
  /// Feeds an input to the parser, which must never trap. Returns whether the input was valid.
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

/// The choices that a fuzzer makes besides the input, such as how it is divided into pieces and how much time passes.
struct Choices {
  private let next: () -> UInt64

  init(_ next: @escaping () -> UInt64) { self.next = next }

  /// Returns a number from 0 to `count - 1`. `count` must be positive.
  mutating func pick(_ count: Int) -> Int { Int(next() % UInt64(count)) }
}
