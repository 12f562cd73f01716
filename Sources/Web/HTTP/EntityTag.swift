internal import Basics

/// A strong entity tag, which identifies the content of an answer (RFC 9110, 8.8.3): `"abc"`.
package struct EntityTag: Sendable, Equatable {
  /// The text between the quotes.
  package let value: String

  /// `value` must contain neither quotes nor blanks.
  package init(_ value: String) { self.value = value }

  /// With quotes, as in a header.
  package var text: String { "\"\(value)\"" }

  /// Whether a list header names this tag. `*` alone names every tag. A weak tag `W/"abc"` counts if `takesWeak` (RFC
  /// 9110, 8.8.3.2). A malformed element ends the list. No tag is copied, because there may be thousands.
  func isListed(in values: [String], takesWeak: Bool) -> Bool {
    values.enumerated().contains { index, list in
      var rest = list.utf8[...]
      var isFirst = index == 0
      while true {
        rest = rest.drop { $0 == 0x20 || $0 == 0x09 || $0 == UInt8(ascii: ",") }
        if isFirst, rest.first == UInt8(ascii: "*") { return true }
        isFirst = false
        let isWeak = rest.starts(with: "W/".utf8)
        if isWeak { rest = rest.dropFirst(2) }
        guard rest.first == UInt8(ascii: "\"") else { return false }
        let inner = rest.dropFirst()
        guard let end = inner.firstIndex(of: UInt8(ascii: "\"")) else { return false }
        if takesWeak || !isWeak, inner[..<end].elementsEqual(value.utf8) {
          return true
        }
        rest = inner[inner.index(after: end)...]
      }
    }
  }
}
