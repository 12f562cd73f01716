package import Basics
package import Database

/// Whom people block. Who is blocked neither opens a dialog with the other one, nor writes in theirs, nor adds the other
/// one anywhere.
package struct Blocks: Sendable {
  private let database: any SQLDatabase
  private let dialogs: any SharedDialogs

  package init(database: any SQLDatabase, dialogs: any SharedDialogs) {
    self.database = database
    self.dialogs = dialogs
  }

  /// Somebody who is blocked.
  package struct Blocked: Sendable {
    package let id: UserID
    package let name: String
    package let createdAt: Timestamp
  }

  /// Blocks an account for a user. Throws `user_not_found` if there is no such account, or if it is the user's own.
  package func block(_ blocked: UserID, for user: UserID) async throws -> Blocked {
    try await database.write(.essential) { transaction in
      guard blocked != user,
        let name = try await AccountStore.user(blocked, in: transaction)?.name
      else { throw AppError(.userNotFound) }
      if try await BlockStore.add(blocked, for: user, at: .now, in: transaction) {
        try await self.dialogs.changed(between: user, and: blocked, in: transaction)
      }
      let time = try await BlockStore.createdAt(blocked, for: user, in: transaction)
      return Blocked(id: blocked, name: name, createdAt: time ?? .now)
    }
  }

  /// Ends a block. Nothing happens if there is none.
  package func unblock(_ blocked: UserID, for user: UserID) async throws {
    try await database.write { transaction in
      if try await BlockStore.remove(blocked, for: user, in: transaction) {
        try await self.dialogs.changed(between: user, and: blocked, in: transaction)
      }
    }
  }

  /// Returns whom a user blocks, in the order of their ids, behind `after`.
  package func list(of user: UserID, after: UserID?, limit: Int) async throws -> [Blocked] {
    try await database.read { transaction in
      try await BlockStore.blocked(by: user, after: after, limit: limit, in: transaction).map {
        Blocked(id: $0.user, name: $0.name, createdAt: $0.createdAt)
      }
    }
  }
}

/// The dialogs that two people have. A port, implemented by `Chat`.
package protocol SharedDialogs: Sendable {
  /// Whether one of the two blocks the other one has changed.
  func changed(
    between one: UserID, and other: UserID, in transaction: Transaction
  ) async throws
}
