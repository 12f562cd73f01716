/// Makes inputs for a fuzzer: valid ones, changed in a few places, joined and cut. Repeatable.
package struct Mutator {
  private let seeds: [[UInt8]]
  private let words: [[UInt8]]
  private var random: SeededRandom

  /// `seeds` are valid inputs; `words` are tokens that mean something to the parser.
  package init(seeds: [[UInt8]], words: [[UInt8]], random: SeededRandom) {
    self.seeds = seeds
    self.words = words
    self.random = random
  }

  /// A number below `count`.
  private mutating func pick(_ count: Int) -> Int { Int(random.next() % UInt64(count)) }

  /// The next input, at most a few hundred bytes.
  package mutating func next() -> [UInt8] {
    var bytes = seeds[pick(seeds.count)]
    // One in eight is left as it is, so that the good paths are walked as well.
    for _ in 0..<pick(8) { change(&bytes) }
    return bytes
  }

  private mutating func change(_ bytes: inout [UInt8]) {
    let position = pick(bytes.count + 1)
    switch pick(8) {
    case 0: bytes.insert(UInt8(truncatingIfNeeded: random.next()), at: position)
    case 1: if position < bytes.count { bytes[position] = UInt8(truncatingIfNeeded: random.next()) }
    case 2: if position < bytes.count { bytes[position] ^= 1 << UInt8(pick(8)) }
    case 3: bytes.removeSubrange(position..<min(bytes.count, position + 1 + pick(4)))
    case 4: bytes.removeSubrange(position...)
    case 5:
      let piece = bytes[position..<min(bytes.count, position + pick(24))]
      if bytes.count < 512 { bytes.insert(contentsOf: Array(piece), at: pick(bytes.count + 1)) }
    case 6:
      let other = seeds[pick(seeds.count)]
      bytes = Array(bytes[..<position] + other[pick(other.count + 1)...])
    default: bytes.insert(contentsOf: words[pick(words.count)], at: position)
    }
  }
}
