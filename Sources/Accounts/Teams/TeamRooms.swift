package import Basics
package import Database

/// The rooms of teams, as Accounts needs them. A port, implemented by `Chat`.
///
/// Every call is part of the transaction that changes the team, which has locked the team's row. It comes before the
/// call of `MembershipDirectory.changed`, because rooms are locked before memberships (`RowLock`).
package protocol TeamRooms: Sendable {
  /// Makes the channel of a new team, and returns it.
  func makeChannel(
    of team: Team, by creator: UserID, in transaction: Transaction
  ) async throws -> RoomID

  /// Locks the channels of these teams, and the dialogs of this user in them. For a transaction that applies changes to
  /// several teams, because all rooms must be locked at once.
  func lock(_ teams: [Team], with user: UserID, in transaction: Transaction) async throws

  /// Applies a change of the team to its channel and to the dialogs between its members.
  func apply(
    _ change: TeamChange, to team: Team, by actor: UserID, in transaction: Transaction
  ) async throws
}

/// A change of a team that its rooms follow.
package enum TeamChange: Sendable, Equatable {
  case renamed(String)
  case activated
  case deactivated
  case deleted
  /// Somebody else put this person into the team, or the person did so as a manager of the organization.
  case added(UserID)
  /// The person accepted an invitation.
  case joined(UserID)
  case removed(UserID)
  case left(UserID)
  case madeAdmin(UserID)
  case unmadeAdmin(UserID)
  /// The team has another super_admin. The earlier one is an admin now.
  case handedOver(from: UserID, to: UserID)
}
