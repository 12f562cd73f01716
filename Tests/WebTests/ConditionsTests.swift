import Basics
import Testing

@testable import Web

@Suite struct ConditionsTests {
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
    #expect(
      EntityTag.list([#""a", W/"b" ,, "c,d""#, #""e""#])?.map(\.text) == [
        #""a""#, #"W/"b""#, #""c,d""#, #""e""#,
      ])
    #expect(EntityTag.list(["*"]) == nil)
    #expect(EntityTag.list([#""a" nonsense "b""#])?.count == 1)
    #expect(EntityTag.list([#""open"#])?.isEmpty == true)
  }
}
