/// A parser of outside bytes, as fuzzers see it: `FuzzTests`, which changes good inputs at random, and a fuzzer that is guided
/// by what the input reached (`Coverage/`).
struct ParserTarget: Sendable {
  /// One word, for the command line.
  let name: String
  let title: String
  /// Good inputs, from which others are made.
  let seeds: [[UInt8]]
  /// Pieces that mean something to the parser.
  let words: [[UInt8]]
  /// Whether at least one in a hundred of the changed seeds is good: or the fuzzer never gets past the first byte.
  let isOftenGood: Bool
  /// Gives the parser an input; returns whether that was a good one. What a parser must never do is a trap.
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

/// What a fuzzer decides besides the input: in which pieces it comes, how long things take.
struct Choices {
  private let next: () -> UInt64

  init(_ next: @escaping () -> UInt64) { self.next = next }

  /// A number below `count`.
  mutating func pick(_ count: Int) -> Int { Int(next() % UInt64(count)) }
}
