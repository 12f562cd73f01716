import Basics
import Testing

@testable import Web

@Suite struct RequestHeadParserTests {
  private func parse(_ text: String) throws -> RequestHead? {
    var parser = RequestHeadParser(maximumBytes: 16_384)
    return try Array(text.utf8).withUnsafeBytes { bytes in
      guard let length = try parser.scan(bytes) else { return nil }
      return try parser.parse(bytes, length: length)
    }
  }

  private func isRefused(_ text: String) -> Bool {
    do { return try parse(text) == nil } catch { return true }
  }

  @Test func `a head is taken apart`() throws {
    let head = try #require(
      try parse(
        "POST /a%20b?c=d&e HTTP/1.1\r\nHost: x\r\nX-Two:  a \t\r\nContent-Length: 12\r\n\r\n"))
    #expect(head.method == .post && head.path == "/a%20b" && head.queryText == "c=d&e")
    #expect(head.headers["x-two"] == "a" && head.framing == .length(12) && head.keepsAlive)
    #expect(try parse("BREW / HTTP/1.1\r\nHost: x\r\n\r\n")?.method == nil)
    #expect(
      try parse("GET / HTTP/1.1\r\nHost: x\r\nConnection: a, Close\r\n\r\n")?.keepsAlive == false)
    #expect(try parse("GET / HTTP/1.0\r\n\r\n")?.keepsAlive == false)
    #expect(try parse("GET / HTTP/1.1\r\nHost: x\r\n") == nil)
  }

  @Test(arguments: Method.allCases)
  func `methods are known by their names, in capitals`(method: Web.Method) throws {
    let rest = " / HTTP/1.1\r\nHost: x\r\n\r\n"
    #expect(try parse(method.rawValue + rest)?.method == method)
    for other in [method.rawValue.lowercased(), method.rawValue + "S"] {
      let head = try #require(try parse(other + rest))
      #expect(head.method == nil)
    }
  }

  @Test(arguments: [
    "", " ", "  ", "GET", "GET /", "GET / ", " / HTTP/1.1", "GET  HTTP/1.1", "GET  / HTTP/1.1",
    "GET /  HTTP/1.1", "GET / HTTP/1.1 ", "GET / / HTTP/1.1", "GET /a b HTTP/1.1", "G(T / HTTP/1.1",
    "GET\t/ HTTP/1.1", "GET /\tHTTP/1.1", "GET /#a HTTP/1.1", "GET x HTTP/1.1",
    "GET /\u{e9} HTTP/1.1",
    "GET / HTTP/1.1\tx",
  ])
  func `request lines that are none`(line: String) {
    #expect(isRefused("\(line)\r\nHost: x\r\n\r\n"))
  }

  @Test(arguments: [
    ("http://x/y?z", "/y", "z"), ("HTTP://x/y", "/y", ""), ("https://x:443?/z", "/", "/z"),
    ("http://x", "/", ""), ("http://[::1]:80/a", "/a", ""),
  ])
  func `absolute targets are routed by their path`(target: String, path: String, query: String)
    throws
  {
    let head = try #require(try parse("GET \(target) HTTP/1.1\r\nHost: x\r\n\r\n"))
    #expect(head.path == path && head.queryText == query)
  }

  @Test(arguments: [
    "HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "HTTP/1.a", "HTTP/1.", "HTTP/1.10", "HTTP/11.1", "http/1.1",
    "HTTP/1 1",
    "HTTP/3", "", "ICY/1.1",
  ])
  func `other versions are refused`(version: String) {
    #expect(isRefused("GET / \(version)\r\nHost: x\r\n\r\n"))
  }

  @Test func `a star is for OPTIONS`() throws {
    #expect(try parse("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")?.path == "*")
    #expect(isRefused("GET * HTTP/1.1\r\nHost: x\r\n\r\n"))
    #expect(isRefused("OPTIONS *x HTTP/1.1\r\nHost: x\r\n\r\n"))
  }

  @Test(arguments: [
    "", "a b", "a/b", "a@b", "a:b", "a:1:2", "a:65536", "a:-1", "[::1", "::1", "[x]", "[1.2.3.4]",
    "[::1]a", "a%", "a%4", "a%zz", "a\\b", "a\"b", "<a>", "a^b", "a`b", "a{b}", "a|b", "a#b", "a?b",
    ":80", "a,b:x", "\u{e9}",
  ])
  func `hosts that are none`(host: String) {
    #expect(isRefused("GET / HTTP/1.1\r\nHost: \(host)\r\n\r\n"))
  }

  @Test(arguments: [
    "a", "a.b-c_d~e", "a:80", "a:", "1.2.3.4:65535", "[::1]", "[2001:db8::1]:8080", "a%20b",
    "xn--nxasmq6b", "a!$&'()*+,;=b",
  ])
  func `hosts that are`(host: String) throws {
    #expect(try parse("GET / HTTP/1.1\r\nHost: \(host)\r\n\r\n") != nil)
  }

  @Test(arguments: [
    "Origin: a\r\nOrigin: b", "Sec-WebSocket-Key: a\r\nSec-WebSocket-Key: a",
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13",
    "Authorization: a\r\nauthorization: b",
    "Content-Type: a\r\nContent-Type: b", "Content-Length: 1\r\nContent-Length: 1",
    "Content-Length: 1\r\nTransfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Content-Length: 1, 1",
    "Content-Length: 1000000000000000000", "Content-Length:", "Transfer-Encoding:",
    // U+212A (Kelvin sign), which equals "k" only by Unicode's case folding.
    "Transfer-Encoding: chun\u{212A}ed",
  ])
  func `what is told twice or wrongly is refused`(fields: String) {
    #expect(isRefused("POST / HTTP/1.1\r\nHost: x\r\n\(fields)\r\n\r\n"))
  }

  @Test func `words of lists are those of ASCII`() throws {
    let head = try #require(
      try parse("GET / HTTP/1.0\r\nConnection: \u{212A}eep-alive, x\r\nUpgrade: WebSocket\r\n\r\n"))
    #expect(!head.keepsAlive && head.headers.list("upgrade", contains: "websocket"))
    #expect(
      isWord("KeEp-Alive".utf8, "keep-alive") && !isWord("keep".utf8, "keep-alive")
        && !isWord("@".utf8, "`"))
  }

  @Test func `chunks are told of by HTTP 1_1 only`() throws {
    let fields = "Host: x\r\nTransfer-Encoding: Chunked\r\nExpect: 100-continue\r\n\r\n"
    let head = try #require(try parse("POST / HTTP/1.1\r\n" + fields))
    #expect(head.framing == .chunked && head.bodyLength == nil && head.expectsContinue)
    #expect(isRefused("POST / HTTP/1.0\r\n" + fields))
    let old = "POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"
    #expect(try parse(old)?.expectsContinue == false)
  }
}
