package import Access
internal import Accounts
package import Basics
package import Database
internal import Synchronization

/// The dialogs between two members of a team. Each is made once, when it is first requested.
package final class Dialogs: Sendable {
  private let database: any SQLDatabase
  private let rooms: Rooms
  /// Dialogs never get another id, and a deleted one is not found by its id either. So nothing in here gets outdated.
  private let known = Mutex(BoundedCache<DialogKey, RoomID>(capacity: capacity))

  private static let capacity = 20_000

  package init(database: any SQLDatabase, rooms: Rooms) {
    self.database = database
    self.rooms = rooms
  }

  /// Returns the dialog of two members of a team from memory, or nil if the database has to be asked.
  package func known(of user: UserID, with other: UserID, in team: TeamID) -> RoomID? {
    let key = DialogKey(team: team, pair: DialogPair(user, other))
    return known.withLock { $0.value(for: key) }
  }

  /// Returns the dialog of two members of a team, and makes it if they have none. Throws `room_not_found` if the user
  /// is not in the team, `recipient_not_in_team` if the other one is not or is the same user, and `forbidden` if there
  /// is no dialog yet and the team is not active. A dialog that exists is returned even if the other one has left the
  /// team; whether the user may write in it is decided there.
  package func dialog(
    of user: UserID, with other: UserID, in team: TeamID
  ) async throws -> RoomID {
    let key = DialogKey(team: team, pair: DialogPair(user, other))
    let found = try await database.read { transaction -> RoomID? in
      guard try await People.isMember(user, of: team, in: transaction) else {
        throw AppError(.roomNotFound)
      }
      if user == other { throw AppError(.recipientNotInTeam) }
      return try await RoomStore.dialog(key, in: transaction)
    }
    if let found { return remember(found, key) }
    let made = try await database.write { transaction -> RoomID in
      guard let isActive = try await People.lockTeam(team, in: transaction),
        try await People.isMember(user, of: team, in: transaction)
      else { throw AppError(.roomNotFound) }
      if let found = try await RoomStore.dialog(key, in: transaction) { return found }
      guard try await People.isMember(other, of: team, in: transaction) else {
        throw AppError(.recipientNotInTeam)
      }
      guard isActive else { throw AppError(WriteBlock.teamInactive.code) }
      try await People.requireNotBlocked(user, by: other, in: transaction)
      return try await self.make(key, in: transaction)
    }
    return remember(made, key)
  }

  /// Returns the dialog of the caller with somebody of their circle, and makes it if they have none. Throws
  /// `user_not_found` if there is no such account, or if it is outside the circle and they have no dialog.
  package func dialog(
    of caller: Caller, with other: UserID
  ) async throws -> (view: Rooms.View, isNew: Bool) {
    let key = DialogKey(team: nil, pair: DialogPair(caller.userID, other))
    return try await database.write { transaction in
      guard other != caller.userID else { throw AppError(.userNotFound) }
      try await People.requireNotBlocked(caller.userID, by: other, in: transaction)
      // One transaction at a time for each pair, so that the dialog is made once.
      try await transaction.exclusively(on: key.lockNumber)
      var id = try await RoomStore.dialog(key, in: transaction)
      let isNew = id == nil
      if id == nil {
        guard try await People.exists(other, in: transaction),
          try await self.rooms.circle.contains(other, of: caller.userID, in: transaction)
        else { throw AppError(.userNotFound) }
        id = try await self.make(key, in: transaction)
      }
      guard let id, let room = try await self.rooms.directory.readAgain(id, in: transaction) else {
        throw AppError(.roomNotFound)
      }
      return (try await Rooms.view(room, for: caller, in: transaction), isNew)
    }
  }

  private func remember(_ id: RoomID, _ key: DialogKey) -> RoomID {
    known.withLock { $0.insert(id, for: key) }
    return id
  }

  /// Forgets everything, because the database was replaced or restored.
  package func forgetAll() { known.withLock { $0 = BoundedCache(capacity: Self.capacity) } }

  /// Makes a dialog that nobody manages. The caller has made sure that there is none.
  private func make(_ key: DialogKey, in transaction: Transaction) async throws -> RoomID {
    try transaction.willLock(.roomHeads)
    let now = Timestamp.now
    let id = try await RoomStore.insert(
      Room.Properties(name: "", kind: .dialog, createdAt: now, team: key.team, pair: key.pair),
      in: transaction)
    for user in [key.pair.low, key.pair.high] {
      try await RoomPeopleStore.put(
        RoomPerson(userID: user, joinedAt: now, isAccepted: true), in: id, version: 1, transaction)
    }
    try await MarkStore.start([key.pair.low, key.pair.high], in: id, transaction)
    _ = try await rooms.announce(id, in: transaction)
    return id
  }
}
