import TestSupport
import Testing

import class Foundation.ProcessInfo

/// Feeds random mutations of valid inputs to every parser of untrusted bytes. A trap in a parser would end the
/// process, and so disconnect all clients. `make fuzz` runs ten million inputs for each parser in release mode;
/// ordinary test runs use 100,000.
@Suite struct FuzzTests {
  private static let inputs =
    ProcessInfo.processInfo.environment["MARTLET_TEST_FUZZ_INPUTS"].flatMap { Int($0) } ?? 100_000

  @Test(arguments: ParserTarget.all)
  func `no input ends the process`(target: ParserTarget) {
    var mutator = Mutator(
      seeds: target.seeds, words: target.words, random: SeededRandom(seed: target.seed))
    var random = SeededRandom(seed: target.seed + 1)
    var good = 0
    for _ in 0..<Self.inputs {
      var choices = Choices { random.next() }
      if target.feed(&choices, mutator.next()) { good += 1 }
    }
    #expect(good > (target.isOftenGood ? Self.inputs / 100 : 0))
  }
}

extension ParserTarget: CustomTestStringConvertible {
  var testDescription: String { title }

  /// The seed of the random numbers: the same in every run, but different for each parser.
  fileprivate var seed: UInt64 { name.utf8.reduce(7) { $0 &* 31 &+ UInt64($1) } }
}
