import Testing

@testable import Web

@Suite struct MultipartParserTests {
  private func parse(_ text: String, step: Int) throws(MultipartParser.Failure) -> [String] {
    var parser = MultipartParser(boundary: "B", maximumParts: 5)
    var bytes = Array(text.utf8)[...]
    var found: [String] = []
    var data: [UInt8] = []
    while true {
      while let event = try parser.next(isComplete: bytes.isEmpty) {
        switch event {
        case .part(let part): found.append("\(part.name) \(part.filename ?? "-")")
        case .data(let piece): data += piece
        case .partEnd:
          found.append(String(decoding: data, as: UTF8.self))
          data = []
        case .end: return found
        }
      }
      parser.append(Array(bytes.prefix(step)))
      bytes = bytes.dropFirst(step)
    }
  }

  private let headers = "Content-Disposition: form-data; name=\"a\"; filename=\"f\"\r\n\r\n"

  @Test(arguments: [1, 2, 3, 7, 1000])
  func `parts come whole, however they are cut`(step: Int) throws {
    let data = "x\r\n--\r\n-B\r\r\n--A"
    let text = "--B\r\n\(headers)\(data)\r\n--B \t\r\n\(headers)\r\n--B--\r\nrest"
    #expect(try parse(text, step: step) == ["a f", data, "a f", ""])
    #expect(try parse("--B--", step: step) == [])
  }

  @Test(arguments: [
    "", "--B", "--B\r\n", "--B-", "--C--", "\r\n--B--", "--B\r\n\r\n\r\nx\r\n--B--", "--Bx\r\n",
    "--B x\r\n",
    "--B                   \r\n",
  ])
  func `what is broken says so`(text: String) {
    for step in [1, 1000] {
      #expect(throws: MultipartParser.Failure.self) { try parse(text, step: step) }
    }
  }

  @Test func `the number of parts is bounded`() throws {
    let part = "--B\r\n\(headers)\r\n"
    #expect(try parse(String(repeating: part, count: 5) + "--B--", step: 50).count == 10)
    #expect(throws: MultipartParser.Failure.self) {
      try parse(String(repeating: part, count: 6) + "--B--", step: 50)
    }
  }
}
