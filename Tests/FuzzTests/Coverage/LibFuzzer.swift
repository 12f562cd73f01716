#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

// The functions that libFuzzer calls (https://llvm.org/docs/LibFuzzer.html). The environment variable `MARTLET_PARSER`
// names the parser. `scripts/fuzz` runs all parsers.

/// The parser that this run tests.
private let target: ParserTarget = {
  let name = getenv("MARTLET_PARSER").map { String(cString: $0) } ?? ""
  guard let target = ParserTarget.all.first(where: { $0.name == name }) else {
    print("MARTLET_PARSER is one of " + ParserTarget.all.map(\.name).joined(separator: ", "))
    exit(2)
  }
  return target
}()

/// Prepares the run. Without `MARTLET_PARSER`, prints the names of all parsers and exits. With `MARTLET_SEEDS`, writes
/// the parser's seeds into the folder of that name and its words into a file beside it (`.words`), and exits.
@_cdecl("LLVMFuzzerInitialize")
public func initialize(
  _: UnsafeMutablePointer<CInt>,
  _: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>>>
) -> CInt {
  if getenv("MARTLET_PARSER") == nil {
    for target in ParserTarget.all { print(target.name) }
    exit(0)
  }
  if let folder = getenv("MARTLET_SEEDS").map({ String(cString: $0) }) {
    for (number, seed) in target.seeds.enumerated() { save(seed + [0], "\(folder)/seed-\(number)") }
    let words = target.words.map { word in
      "\"" + word.map { "\\x" + (($0 < 16 ? "0" : "") + String($0, radix: 16)) }.joined() + "\"\n"
    }
    save(Array(words.joined().utf8), folder + ".words")
    exit(0)
  }
  return 0
}

private func save(_ bytes: [UInt8], _ path: String) {
  guard let file = fopen(path, "w") else {
    perror(path)
    exit(1)
  }
  fwrite(bytes, 1, bytes.count, file)
  fclose(file)
}

/// Runs one input. Its last byte seeds the random choices, so that the fuzzer explores these as well.
@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
  let input = Array(UnsafeBufferPointer(start: data, count: size))
  var state = UInt64(input.last ?? 0) &+ 0x9E37_79B9_7F4A_7C15
  var choices = Choices {
    // splitmix64
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
  _ = target.feed(&choices, Array(input.dropLast()))
  return 0
}
