import Basics
import Foundation
import Server
import Testing

@Suite struct ErrorCodeTests {
  private static let root = #filePath.replacing("Tests/ServerTests/ErrorCodeTests.swift", with: "")

  @Test func `the page of errors lists every code as it is`() throws {
    let page = try String(contentsOfFile: Self.root + "docs/ERRORS.md", encoding: .utf8)
    let rows = page.split(separator: "\n").filter { $0.hasPrefix("| `") }.map(String.init)
    #expect(
      rows == ErrorCode.all.map { "| `\($0.wire)` | \($0.status) | \($0.meaning) |" })
    #expect(Set(ErrorCode.all.map(\.wire)).count == ErrorCode.all.count)
  }

  @Test func `every code that a feature declares is in its list`() throws {
    var declared: [String] = []
    let files = FileManager.default.enumerator(atPath: Self.root + "Sources")
    while let path = files?.nextObject() as? String {
      guard path.hasSuffix(".swift") else { continue }
      let source = try String(contentsOfFile: Self.root + "Sources/" + path, encoding: .utf8)
      declared += source.matches(of: /= ErrorCode\(\s*"(\w+)"/).map { String($0.1) }
    }
    #expect(declared.sorted() == ErrorCode.all.map(\.wire).sorted())
  }
}
