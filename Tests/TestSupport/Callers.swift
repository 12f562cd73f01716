package import Access
package import Basics

extension Caller {
  /// A person with a token of another system.
  package static func foreign(
    _ user: UUID, of entities: [UUID] = [], level: Int64 = 0
  ) -> Caller {
    Caller(
      principal: Principal(
        userID: UserID(user), origin: .foreignToken(entities: entities, level: level),
        expiresAt: nil), affiliations: nil)
  }

  /// A person with an account on this server, for one of its sessions.
  package static func local(
    _ user: UUID, _ affiliations: Affiliations = .none, session: UInt64 = 0
  ) -> Caller {
    Caller(
      principal: Principal(
        userID: UserID(user),
        origin: .session(SessionID(UUID(high: 7 + session << 8, low: user.low))),
        expiresAt: nil), affiliations: affiliations)
  }
}

extension Affiliations {
  package static let none = Affiliations(version: 0)
}
