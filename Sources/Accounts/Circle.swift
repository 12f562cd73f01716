package import Basics
package import Database

/// The people whom someone knows: those who share an organization, a team, or a room. Only they can be found by name,
/// and added somewhere without being asked.
package struct Circle: Sendable {
  private let includesEveryone: Bool
  private let rooms: any SharedRooms

  /// With `includesEveryone` all accounts know each other, as on a server of one organization.
  package init(includesEveryone: Bool, rooms: any SharedRooms) {
    self.includesEveryone = includesEveryone
    self.rooms = rooms
  }

  /// Whether an account is in the circle of another. Everyone is in their own.
  package func contains(
    _ other: UserID, of user: UserID, in transaction: Transaction
  ) async throws -> Bool {
    if includesEveryone || other == user { return true }
    if try await transaction.first(Self.sharedSQL, [.id(user), .id(other)]) != nil { return true }
    return try await rooms.haveRoomInCommon(user, other, in: transaction)
  }

  private static let sharedSQL: SQL = """
    SELECT 1 WHERE EXISTS (
        SELECT 1 FROM memberships a JOIN memberships b ON b.organization_id = a.organization_id
        WHERE a.user_id = $1 AND b.user_id = $2)
      OR EXISTS (
        SELECT 1 FROM team_members a JOIN team_members b ON b.team_id = a.team_id
        WHERE a.user_id = $1 AND b.user_id = $2)
    """
}

/// Whether accounts know each other from a room. A port, implemented by `Chat`.
package protocol SharedRooms: Sendable {
  /// Whether there is a room that both joined by their own act or wrote in.
  func haveRoomInCommon(
    _ one: UserID, _ other: UserID, in transaction: Transaction
  ) async throws -> Bool
}
