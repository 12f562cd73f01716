package import Basics
package import Database
package import Events

/// What becomes of the messages of an account that is erased.
package enum MessagesOfErased: String, Sendable, CaseIterable {
  /// They stay, as those of a deleted user.
  case keep
  case delete
}

/// Erases accounts: nothing says any more who somebody was, and nobody meets them anywhere. Their messages stay, as those
/// of a deleted user, or are deleted if that is asked for.
///
/// The first transaction ends the sessions, removes the person from the teams and takes name and address out. The rooms
/// follow in small transactions, so that no message waits for a person with thousands of them; deleting messages may
/// take long and goes on behind the answer. What is left to do is in the table `erasures`, so it survives a crash.
package struct AccountErasure: Sendable {
  private let database: any SQLDatabase
  private let events: EventStream
  private let accounts: AccountService
  private let memberships: MembershipDirectory
  private let teams: Teams
  private let rooms: any RoomsOfErased

  /// How often `follow` should be called, in milliseconds.
  package static let everyMilliseconds = 2000
  /// A transaction that had begun before an account was erased may have added it to something. After this time the
  /// rooms and teams are searched a last time.
  private static let lastSearchMilliseconds: Int64 = 60_000

  package init(
    database: any SQLDatabase, events: EventStream, accounts: AccountService,
    memberships: MembershipDirectory, teams: Teams, rooms: any RoomsOfErased
  ) {
    self.database = database
    self.events = events
    self.accounts = accounts
    self.memberships = memberships
    self.teams = teams
    self.rooms = rooms
  }

  /// Erases an account. Returns when it is in no team and no room any more; its messages may be deleted later. Throws
  /// `user_not_found`, and `hand_over_first` with the teams whose super_admin it is.
  package func erase(
    _ user: UserID, messages: MessagesOfErased, by actor: AuditActor
  ) async throws {
    try await database.write(.essential) { transaction in
      try await self.teams.leaveAll(user, isForced: false, in: transaction)
      guard try await AccountStore.erase(user, at: .now, in: transaction) else {
        throw AppError(.userNotFound)
      }
      let ended = try await AccountStore.endAll(of: user, but: nil, at: .now, in: transaction)
      self.events.announceEnd(of: ended, in: transaction)
      try await transaction.execute(
        "INSERT INTO erasures (user_id, deletes_messages, requested_at) VALUES ($1, $2, $3)",
        [.id(user), .bool(messages == .delete), .time(.now)])
      try await AuditTrail.record(.userErased, on: .user(user), by: actor, in: transaction)
      try await self.memberships.changed([user], in: transaction)
      transaction.afterCommit { self.accounts.forget(user) }
    }
    try await rooms.leaveAll(user)
  }

  /// Does what is left of earlier erasures. `pause` is called between two transactions.
  package func follow(pause: @Sendable () async -> Void) async throws {
    let pending = try await database.read { transaction in
      try await transaction.query("SELECT user_id, deletes_messages, requested_at FROM erasures")
        .map {
          (user: try $0.id(0) as UserID, deletes: try $0.bool(1), requestedAt: try $0.time(2))
        }
    }
    for erasure in pending {
      let user = erasure.user
      let isOver =
        Timestamp.now.milliseconds - erasure.requestedAt.milliseconds > Self.lastSearchMilliseconds
      if isOver {
        try await database.write(.essential) { transaction in
          try await self.teams.leaveAll(user, isForced: true, in: transaction)
          try await self.memberships.changed([user], in: transaction)
        }
      }
      try await rooms.leaveAll(user)
      if erasure.deletes {
        try await rooms.deleteMessages(of: user, pause: pause)
        // No message comes after the end of the sessions.
        try await database.write(.essential) { transaction in
          _ = try await transaction.execute(
            "UPDATE erasures SET deletes_messages = 0 WHERE user_id = $1", [.id(user)])
        }
      }
      guard isOver else { continue }
      try await rooms.forget(user, pause: pause)
      try await database.write(.essential) { transaction in
        _ = try await transaction.execute(
          "DELETE FROM erasures WHERE user_id = $1", [.id(user)])
      }
    }
  }
}

/// The rooms of people whose accounts are erased. A port, implemented by `Chat`. Everything may be called again, also on
/// several nodes at once.
package protocol RoomsOfErased: Sendable {
  /// Removes the person from all rooms, in several transactions.
  func leaveAll(_ user: UserID) async throws

  /// Deletes all messages that the person has written.
  func deleteMessages(of user: UserID, pause: @Sendable () async -> Void) async throws

  /// Removes what else is known about the person in rooms, such as what they have read.
  func forget(_ user: UserID, pause: @Sendable () async -> Void) async throws
}
