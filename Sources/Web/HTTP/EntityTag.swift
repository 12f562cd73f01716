internal import Basics

/// A validator of what an answer shows (RFC 9110, 8.8.3): `"abc"`, or `W/"abc"` where only the meaning is the same.
package struct EntityTag: Sendable, Equatable {
  /// What stands between the quotes.
  package let value: String
  package let isWeak: Bool

  /// A strong tag. `value` must have neither quotes nor blanks.
  package init(_ value: String) {
    self.value = value
    isWeak = false
  }

  private init(_ value: String, isWeak: Bool) {
    self.value = value
    self.isWeak = isWeak
  }

  /// As it stands in a field.
  package var text: String { isWeak ? "W/\"\(value)\"" : "\"\(value)\"" }

  func matchesStrongly(_ other: EntityTag) -> Bool {
    !isWeak && !other.isWeak && value == other.value
  }

  func matchesWeakly(_ other: EntityTag) -> Bool { value == other.value }

  /// The tags of a list field; nil for `*`, which is every tag. What is malformed ends the list.
  static func list(_ values: [String]) -> [EntityTag]? {
    var tags: [EntityTag] = []
    for value in values {
      var rest = value.utf8[...]
      while true {
        rest = rest.drop { $0 == 0x20 || $0 == 0x09 || $0 == UInt8(ascii: ",") }
        if rest.isEmpty { break }
        if rest.first == UInt8(ascii: "*"), tags.isEmpty { return nil }
        let isWeak = rest.starts(with: "W/".utf8)
        if isWeak { rest = rest.dropFirst(2) }
        guard rest.first == UInt8(ascii: "\"") else { break }
        let inner = rest.dropFirst()
        guard let end = inner.firstIndex(of: UInt8(ascii: "\"")) else { break }
        tags.append(
          EntityTag(String(decoding: inner[..<end], as: UTF8.self), isWeak: isWeak))
        rest = inner[inner.index(after: end)...]
      }
    }
    return tags
  }
}
