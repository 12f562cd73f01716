internal import Access
package import Accounts
package import Basics
package import Database

/// What platform admins may do with rooms that they are not in. They see what a room is and how much is said in it, but
/// nothing of what is said.
package struct Moderation: Sendable {
  private let database: any SQLDatabase
  private let index: any SQLDatabase
  private let rooms: Rooms
  private let removal: MessageRemoval

  /// - `index`: the database with the search index, in which the log can be read, too.
  package init(database: any SQLDatabase, index: any SQLDatabase, rooms: Rooms) {
    self.database = database
    self.index = index
    self.rooms = rooms
    removal = MessageRemoval(directory: rooms.directory, appender: rooms.appender)
  }

  // MARK: Rooms

  /// Returns rooms below an id, the newest first; `limit` + 1 if there are more than `limit`. With a query only those whose
  /// name has its words, the last one at least as the beginning of one.
  package func list(
    _ query: String?, below id: RoomID, limit: Int
  ) async throws -> [RoomSummary] {
    try await database.read { try await RoomSummaries.list(query, below: id, limit: limit, in: $0) }
  }

  /// Throws `room_not_found`, and `managed_by_team` for a channel, which ends with its team.
  package func deleteRoom(_ id: RoomID, by actor: AuditActor) async throws {
    try await database.write(.essential) { transaction in
      let room = try await self.rooms.directory.readForUpdate(id, in: transaction)
      guard let room else { throw AppError(.roomNotFound) }
      guard room.kind != .channel else { throw AppError(.managedByTeam) }
      try await self.rooms.destroy(id, in: transaction)
      try await AuditTrail.record(.roomDeleted, on: .room(id), by: actor, in: transaction)
    }
  }

  /// Makes somebody who is in a room its manager, because the creator's account was deleted and nobody else has `a`. The
  /// person takes the creator's place. Throws `room_not_found`, `managed_by_team`, `user_not_found` for who is not in the
  /// room, and `forbidden` if the room has somebody who manages it, or is a dialog, which nobody manages.
  package func setManager(_ user: UserID, of id: RoomID, by actor: AuditActor) async throws {
    try await database.write { transaction in
      let room = try await self.rooms.directory.readForUpdate(id, in: transaction)
      guard let room else { throw AppError(.roomNotFound) }
      guard room.kind != .channel else { throw AppError(.managedByTeam) }
      guard let owner = room.ownerUser else {
        throw AppError(.forbidden, "Nobody manages a dialog.")
      }
      let isErased = try await People.isErased(owner, in: transaction)
      guard isErased, !RuleEngine.hasAdministrator(room) else {
        throw AppError(.forbidden, "The room has somebody who manages it.")
      }
      guard try await People.exists(user, in: transaction) else { throw AppError(.userNotFound) }
      let affiliations = try await RuleSubjects.affiliations(of: user, in: transaction)
      guard RuleEngine.standing(of: user, affiliations, in: room).isMember else {
        throw AppError(.userNotFound, "This person is not in the room.")
      }
      try await RoomStore.setOwner(user, of: id, in: transaction)
      try await self.rooms.bump(id, in: transaction)
      try await AuditTrail.record(.roomManagerSet, on: .room(id), by: actor, in: transaction)
    }
  }

  // MARK: Messages

  /// Deletes a message for everyone; nothing happens if it is deleted already. Throws `message_not_found`.
  package func deleteMessage(_ id: MessageID, by actor: AuditActor) async throws {
    guard let place = try await MessageFinder(index: index).place(of: id) else {
      throw AppError(.messageNotFound)
    }
    try await database.write(.essential) { transaction in
      guard try await self.rooms.directory.readForUpdate(place.room, in: transaction) != nil else {
        throw AppError(.messageNotFound)
      }
      try await self.removal.delete([place], keepsNothing: false, in: transaction)
      try await AuditTrail.record(.messageDeleted, on: .message(id), by: actor, in: transaction)
    }
  }
}
