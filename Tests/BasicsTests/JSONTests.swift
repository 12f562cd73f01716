import Testing

@testable import Basics

@Suite struct JSONTests {
  private func parse(_ text: String) -> JSON? { try? JSONParser.parse(Array(text.utf8)) }

  @Test(arguments: [
    ("null", JSON.null), ("true", .bool(true)), ("0", .integer(0)), ("-12", .integer(-12)),
    ("1.5", .double(1.5, text: "1.5")), ("1e3", .double(1000, text: "1e3")),
    ("9223372036854775807", .integer(.max)),
    ("-9223372036854775808", .integer(.min)),
    ("9223372036854775808", .double(9.223372036854775808e18, text: "9223372036854775808")),
    (#""a\n\u00e4\ud83d\ude00\"\\\/""#, .string("a\nä😀\"\\/")), ("[]", .array([])),
    (" [1 , 2] ", .array([.integer(1), .integer(2)])), (#""\u0000""#, .string("\0")),
  ])
  func `values are read as they are meant`(text: String, value: JSON) {
    #expect(parse(text) == value)
  }

  @Test(arguments: [
    "", " ", "nul", "tru", "01", "-", "1.", ".5", "1e", "+1", "NaN", "'a'", "\"", "\"\\x\"",
    "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"", "\"\\u12\"", "\"a\nb\"", "[1,]", "[1 2]",
    "[",
    "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{\"a\":1 \"b\":2}", "1 2", "{\"a\":1,\"a\":2}",
    "{\"a\":1,\"\\u0061\":2}", "\u{FEFF}1",
  ])
  func `what is not JSON is refused`(text: String) {
    #expect(parse(text) == nil)
  }

  @Test func `bytes that are not UTF-8 are refused`() {
    for bytes: [UInt8] in [
      [0xFF], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xE2, 0x82],
    ] {
      #expect(throws: JSONParser.Failure.self) { try JSONParser.parse([0x22] + bytes + [0x22]) }
      #expect(throws: JSONParser.Failure.self) {
        try JSONParser.parse([0x22, 0x5C, 0x6E] + bytes + [0x22])
      }
    }
  }

  @Test func `nesting has a limit`() {
    let deep = String(repeating: "[", count: 16) + String(repeating: "]", count: 16)
    #expect(parse(deep) != nil)
    #expect(parse("[" + deep + "]") == nil)
  }

  @Test func `what values take is estimated by their number, not by their texts`() {
    func estimate(_ text: String) -> Int { JSONParser.memoryEstimate(of: Array(text.utf8)) }
    let text = #""a, b: [c], {d}, \" \\""#
    #expect(estimate(text) == text.utf8.count + 32)
    #expect(
      estimate("[" + String(repeating: "0,", count: 1000) + "0]") > 1000 * MemoryLayout<JSON>.stride
    )
    #expect(estimate(String(repeating: "[", count: 1000)) > 1000 * 64)
    // Texts that end in the middle, and texts that are not JSON.
    for broken in ["\"", "\"\\", "\\", "]}", ""] { #expect(estimate(broken) == broken.utf8.count) }
  }

  @Test func `many keys are compared too`() {
    let keys = (0..<200).map { "\"k\($0)\":\($0)" }
    #expect(parse("{" + keys.joined(separator: ",") + "}")?.object?.members.count == 200)
    #expect(parse("{" + (keys + ["\"k7\":0"]).joined(separator: ",") + "}") == nil)
  }

  @Test func `whole numbers up to 2^53, also as text`() {
    #expect(parse("1.0")?.wholeNumber == 1)
    #expect(parse("9007199254740992")?.wholeNumber == 1 << 53)
    #expect(parse("9007199254740993")?.wholeNumber == nil)
    #expect(parse("1e400")?.wholeNumber == nil)
    #expect(parse("1.5")?.wholeNumber == nil)
    #expect(JSON.string("9999").wholeNumberOrNumericString == 9999)
    for text in ["", "-", " 1", "1 ", "0x1", "1e3", "99999999999999999999", "٣"] {
      #expect(JSON.string(text).wholeNumberOrNumericString == nil)
    }
  }

  @Test func `what is written is read back`() throws {
    let text = "a\"\\\u{1}\u{1F}\n\t/ä😀"
    var writer = JSONWriter()
    writer.object {
      $0.member("text", text)
      $0.member("least", Int64.min)
      $0.key("list")
      $0.array(of: [true, false]) { $0.value($1) }
      $0.nullMember("nothing")
    }
    let object = try #require(try JSONParser.parse(writer.bytes).object)
    #expect(object["text"] == .string(text))
    #expect(object["least"] == .integer(.min))
    #expect(object["list"] == .array([.bool(true), .bool(false)]))
    #expect(object["nothing"] == .null)
    var again = JSONWriter()
    again.value(JSON.object(object))
    #expect(again.bytes == writer.bytes)
  }

  /// Some of these would be repaired to the same number of bytes.
  @Test(
    arguments: [
      [0xF0, 0x9F, 0x98], [0xE2, 0x82], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xFF], [0x61, 0x80],
      [0xF4, 0x90, 0x80, 0x80],
    ] as [[UInt8]])
  func `what is not UTF-8 is no text`(bytes: [UInt8]) {
    #expect(bytes.withUnsafeBufferPointer { String(utf8: $0) } == nil)
    #expect(throws: JSONParser.Failure.self) { try JSONParser.parse([0x22] + bytes + [0x22]) }
    // After an escape, where the text is assembled.
    #expect(throws: JSONParser.Failure.self) {
      try JSONParser.parse(Array(#""\n"#.utf8) + bytes + [0x22])
    }
  }

  @Test(arguments: ["", "a", "é世😀", "\u{FFFD}", "\0", "a\0b", String(repeating: "é", count: 99)])
  func `texts come through as they are`(text: String) {
    #expect(Array(text.utf8).withUnsafeBufferPointer { String(utf8: $0) } == text)
    #expect(text.containsNUL == text.utf8.contains(0))
  }
}
