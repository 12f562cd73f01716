/// A UUID with the type of what it identifies, so that a user's id cannot be passed where a message's is expected.
package struct Identifier<Entity>: Hashable, Sendable, CustomStringConvertible {
  package let uuid: UUID

  package init(_ uuid: UUID) { self.uuid = uuid }

  /// Parses the canonical text form; nil for anything else.
  package init?(_ text: some StringProtocol) {
    guard let uuid = UUID(text) else { return nil }
    self.uuid = uuid
  }

  /// Makes a new version 7 identifier.
  package static func make() -> Self { Self(UUID.version7()) }

  package var description: String { uuid.description }
}

/// The kinds of things that identifiers name. These types have no values.
package enum Entities {
  package enum User {}
  package enum Organization {}
  package enum Team {}
  package enum Session {}
  package enum Message {}
}

package typealias UserID = Identifier<Entities.User>
package typealias OrganizationID = Identifier<Entities.Organization>
package typealias TeamID = Identifier<Entities.Team>
package typealias SessionID = Identifier<Entities.Session>
package typealias MessageID = Identifier<Entities.Message>

/// A room's id: a positive integer, assigned by the database.
package struct RoomID: Hashable, Sendable, Comparable, CustomStringConvertible {
  package let value: Int64

  package init(_ value: Int64) { self.value = value }

  /// Parses a positive 64-bit integer in canonical decimal (no sign, no leading zero); nil for anything else.
  package init?(_ text: some StringProtocol) {
    guard let value = positiveDecimal(text) else { return nil }
    self.value = value
  }

  package static func < (left: Self, right: Self) -> Bool { left.value < right.value }
  package var description: String { String(value) }
}

/// Parses a positive Int64 in canonical decimal: no sign, leading zero, blank or overflow. Nil for anything else.
package func positiveDecimal(_ text: some StringProtocol) -> Int64? {
  var value: Int64 = 0
  var digits = 0
  for byte in text.utf8 {
    guard byte >= 48, byte <= 57, digits < 19, !(digits == 0 && byte == 48) else { return nil }
    let (product, overflow) = value.multipliedReportingOverflow(by: 10)
    let (sum, carry) = product.addingReportingOverflow(Int64(byte - 48))
    guard !overflow, !carry else { return nil }
    value = sum
    digits += 1
  }
  return digits > 0 ? value : nil
}
