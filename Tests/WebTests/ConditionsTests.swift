import Basics
import Testing

@testable import Web

@Suite struct ConditionsTests {
  private func headers(_ fields: [(name: String, value: String)]) throws -> Headers {
    var parser = RequestHeadParser(maximumBytes: 16_384)
    let lines = fields.map { "\($0.name): \($0.value)\r\n" }.joined()
    return try Array("GET / HTTP/1.1\r\nHost: x\r\n\(lines)\r\n".utf8).withUnsafeBytes { bytes in
      let length = try #require(try parser.scan(bytes))
      return try parser.parse(bytes, length: length).headers
    }
  }

  @Test(arguments: [
    (0, "Thu, 01 Jan 1970 00:00:00 GMT"), (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
    (951_827_696, "Tue, 29 Feb 2000 12:34:56 GMT"),
    (4_102_444_799, "Thu, 31 Dec 2099 23:59:59 GMT"),
  ])
  func `dates are written as HTTP wants them, and read again`(seconds: Int64, text: String) {
    #expect(HTTPDate.text(seconds) == text)
    #expect(HTTPDate.seconds(text) == seconds)
  }

  @Test(arguments: ["Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"])
  func `the obsolete forms are read`(text: String) {
    #expect(HTTPDate.seconds(text) == 784_111_777)
  }

  @Test(arguments: [
    "", "x", "Sun, 06 Nov 1994 08:49:37", "Sun, 31 Feb 1994 08:49:37 GMT",
    "Sun, 06 Nov 1994 25:00:00 GMT",
    "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 6 Nov 1994 08:49:37 GMT",
    "Sun, 06 Nov 99999 08:49:37 GMT",
    "Sun, 00 Nov 1994 08:49:37 GMT", "a b c d e f", "- - - -", "1994-11-06T08:49:37Z",
    "Sun, 06 Nov 1969 08:49:37 GMT",
  ])
  func `what is no date`(text: String) { #expect(HTTPDate.seconds(text) == nil) }

  @Test func `lists of tags`() {
    let values = [#""a", W/"b" ,, "c,d""#, #""e" nonsense "f", "g"#, #" , *"#]
    func listed(_ values: [String], takesWeak: Bool) -> String {
      let tags = ["a", "b", "c", "c,d", "e", "f", "g", ""].filter {
        EntityTag($0).isListed(in: values, takesWeak: takesWeak)
      }
      return tags.isEmpty ? "none" : tags.joined(separator: " ")
    }
    #expect(listed(Array(values.prefix(2)), takesWeak: true) == "a b c,d e")
    #expect(listed(Array(values.prefix(2)), takesWeak: false) == "a c,d e")
    #expect(listed(values, takesWeak: false) == "a c,d e")
    #expect(listed(["*"], takesWeak: false) == "a b c c,d e f g ")
    #expect(listed([#""a", *"#], takesWeak: true) == "a")
    #expect(listed(["\"\""], takesWeak: true) == "")
    #expect(listed(["\"", "", "W/", "x"], takesWeak: true) == "none")
  }

  @Test func `a part is asked for of one tag`() throws {
    func range(_ condition: String) throws -> Conditions.Range {
      Conditions(try headers([("range", "bytes=1-2"), ("if-range", condition)]), method: .get)
        .range(of: 10, tag: EntityTag("a"), modified: nil)
    }
    #expect(try range(#""a""#) == .part(1..<3))
    for other in [#"W/"a""#, #""b", "a""#, "*", "a", "", #""a" x"#] {
      #expect(try range(other) == .whole)
    }
  }

  @Test func `what a client takes`() throws {
    func taken(_ offers: String...) throws -> [Bool] {
      let accepted = AcceptEncoding(try headers(offers.map { ("accept-encoding", $0) }))
      return [accepted.takesGzip, accepted.takesBrotli]
    }
    #expect(try taken() == [false, false])
    #expect(try taken("gzip") == [true, false])
    #expect(try taken(" GZIP ;q=0.5,BR") == [true, true])
    #expect(try taken("x-gzip", "br ; Q = 0") == [true, false])
    #expect(try taken("*") == [true, true])
    #expect(try taken("*;q=0, gzip; q=1") == [true, false])
    #expect(try taken("gzip;q=0,*") == [false, true])
    for malformed in [
      "gzip;q=", "gzip;q", "gzip;q=2", "gzip;q=-1", "gzip;q=x", "gzip;q=nan", "gzipp",
    ] {
      #expect(try taken(malformed) == [false, false])
    }
    #expect(try taken("gzip;level=9;q=1,,,br;;") == [true, true])
  }
}
