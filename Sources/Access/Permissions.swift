/// The letters of a rule: read, write, banned, admin.
package struct Permissions: OptionSet, Hashable, Sendable {
  package let rawValue: UInt8

  package init(rawValue: UInt8) { self.rawValue = rawValue }

  package static let read = Permissions(rawValue: 1)
  package static let write = Permissions(rawValue: 2)
  package static let banned = Permissions(rawValue: 4)
  package static let admin = Permissions(rawValue: 8)

  private static let letters: [(Permissions, Character)] = [
    (.read, "r"), (.write, "w"), (.banned, "b"), (.admin, "a"),
  ]

  /// Parses letters in any order, each at most once; nil for anything else. An empty text means no permission.
  package init?(letters text: String) {
    var value: Permissions = []
    for character in text {
      guard let letter = Self.letters.first(where: { $0.1 == character })?.0,
        value.isDisjoint(with: letter)
      else { return nil }
      value.insert(letter)
    }
    self = value
  }

  /// The letters in the order `rwba`.
  package var letters: String {
    String(Self.letters.filter { contains($0.0) }.map(\.1))
  }
}
