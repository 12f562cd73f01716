internal import Access
internal import Accounts
package import Basics
package import Database
internal import Events

/// Removes people whose accounts are erased from rooms, with what is known about them there.
///
/// Their marks remain, ended: from them it is known in which rooms there may be messages of theirs, and who may know
/// that they are a deleted user's.
package struct RoomErasure: RoomsOfErased {
  private let database: any SQLDatabase
  private let rooms: Rooms
  private let removal: MessageRemoval

  /// The most rooms, and the most messages, per transaction.
  private static let roomsPerTransaction = 50
  private static let messagesPerTransaction = 200

  package init(database: any SQLDatabase, rooms: Rooms) {
    self.database = database
    self.rooms = rooms
    removal = MessageRemoval(directory: rooms.directory, appender: rooms.appender)
  }

  package func leaveAll(_ user: UserID) async throws {
    while try await database.write(
      .essential, { try await self.leaveSome(user, in: $0) }) == Self.roomsPerTransaction
    {}
  }

  /// Removes the person from some rooms. Returns from how many.
  private func leaveSome(_ user: UserID, in transaction: Transaction) async throws -> Int {
    let ids = try await RoomStore.rooms(
      naming: user, limit: Self.roomsPerTransaction, in: transaction)
    if ids.isEmpty { return 0 }
    try await RoomStore.lock(ids, in: transaction)
    let before = try await rooms.directory.readAgain(ids, in: transaction)
    for id in ids {
      let version = try await RoomStore.raiseAccessVersion(id, in: transaction)
      try await RoomPeopleStore.remove(user, from: id, version: version, transaction)
      try await RoomStore.removeRule(user.uuid, from: id, transaction)
      try await RoomPeopleStore.forgetAct(of: user, in: id, transaction)
      try await MarkStore.end([user], in: id, transaction)
    }
    let after = try await rooms.announce(ids, in: transaction)
    try await rooms.appender.append(
      ids.compactMap { id in
        // Dialogs have no events, and whoever had not answered was never in.
        guard let room = after[id], room.kind != .dialog,
          before[id]?.people[user]?.isAccepted == true
        else { return nil }
        return Draft(
          roomID: id, channelID: room.entryChannelID, from: user,
          body: .event(RoomEvent(.left, subject: user)), access: .decided)
      }, in: transaction)
    return ids.count
  }

  package func deleteMessages(
    of user: UserID, pause: @Sendable () async -> Void
  ) async throws {
    try await forEachRoom(of: user) { room in
      var place: Int64? = 0
      while let after = place {
        let found = try await database.read {
          try await AuthoredMessages.seqs(
            of: user, in: room, after: after, limit: Self.messagesPerTransaction, $0)
        }
        if !found.seqs.isEmpty {
          try await database.write(.essential) {
            try await self.removal.delete(
              found.seqs.map { (room, $0) }, keepsNothing: true, in: $0)
          }
        }
        place = found.end
        await pause()
      }
    }
  }

  package func forget(_ user: UserID, pause: @Sendable () async -> Void) async throws {
    try await forEachRoom(of: user) { room in
      try await database.write(.essential) { transaction in
        _ = try await transaction.pipeline([
          Statement(
            "DELETE FROM room_reads WHERE room_id = $1 AND user_id = $2", [.room(room), .id(user)]),
          Statement(
            "DELETE FROM mentions WHERE user_id = $2 AND room_id = $1", [.room(room), .id(user)]),
          Statement(
            """
            UPDATE room_marks SET seq = -1, ordinal = 0, is_muted = 0, muted_until = NULL
            WHERE user_id = $2 AND room_id = $1
            """, [.room(room), .id(user)]),
        ])
      }
      await pause()
    }
  }

  private func forEachRoom(
    of user: UserID, _ body: (RoomID) async throws -> Void
  ) async throws {
    var after = RoomID(0)
    while true {
      let place = after
      let ids = try await database.read {
        try await AuthoredMessages.rooms(
          of: user, after: place, limit: Self.roomsPerTransaction, in: $0)
      }
      for id in ids { try await body(id) }
      guard let last = ids.last, ids.count == Self.roomsPerTransaction else { return }
      after = last
    }
  }
}
