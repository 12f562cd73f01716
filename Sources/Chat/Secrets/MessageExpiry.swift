package import Basics
package import Database
internal import Events
internal import Synchronization

/// Deletes messages whose time is over: in secret rooms after `ttl_seconds`, in rooms with `retention_days` after so many days. And
/// removes what is left of messages that were deleted long ago.
///
/// Times are in the database, so they survive restarts. Of several nodes only one deletes a message, because a deletion is an
/// entry of the log, and a message is deleted once.
package final class MessageExpiry: Sendable {
  private let database: any SQLDatabase
  private let removal: MessageRemoval
  /// After how many days nothing is left of a deleted message; nil: something is left for good.
  private let deletedDays: Int64?
  /// Up to which seq the messages of rooms with a retention are known to be deleted.
  private let retained = Mutex<[RoomID: Int64]>([:])

  /// How often `destroyExpired` should be called, in milliseconds, and how often `removeOld` should.
  package static let everyMilliseconds = 500
  package static let oldEveryMilliseconds = 60_000

  /// The most messages per transaction.
  private static let messagesPerTransaction = 200
  /// The most keys that the deletion of a room destroys at once. The others follow within a minute.
  static let keysPerTransaction = 5000
  private static let lockNumber: Int64 = 7_237_955_317_804

  package init(
    database: any SQLDatabase, directory: RoomDirectory, appender: LogAppender, deletedDays: Int64?
  ) {
    self.database = database
    removal = MessageRemoval(directory: directory, appender: appender)
    self.deletedDays = deletedDays
  }

  // MARK: Secret rooms

  /// Destroys the messages of secret rooms whose time is over.
  package func destroyExpired(at now: Timestamp = .now) async throws {
    while try await !database.read({
      try await SecretKeyStore.expired(at: now, limit: 1, in: $0)
    }).isEmpty {
      try await database.write(.essential) { transaction in
        try await transaction.exclusively(on: Self.lockNumber)
        let expired = try await SecretKeyStore.expired(
          at: now, limit: Self.messagesPerTransaction, in: transaction)
        try await self.removal.delete(
          expired.map { ($0.room, $0.seq) }, keepsNothing: true, in: transaction)
        // Also of those whose deletion nobody hears of, because their room was deleted, or was refused, because a row of
        // theirs is lost.
        _ = try await transaction.pipeline(
          expired.flatMap {
            [
              SecretKeyStore.destroy($0.id),
              Statement("DELETE FROM contents WHERE id = $1", [.id($0.id)]),
            ]
          })
      }
    }
  }

  // MARK: Days

  /// Deletes the messages that their rooms do not keep any longer, and removes what is left of those that were deleted
  /// long ago. `pause` is called between two transactions.
  package func removeOld(at now: Timestamp = .now, pause: () async -> Void) async throws {
    for room in try await database.read({ try await SecretKeyStore.deletedRooms(in: $0) }) {
      while try await database.write(
        .essential,
        {
          try await SecretKeyStore.destroyAll(of: room, limit: Self.keysPerTransaction, in: $0)
        }) > 0
      {
        await pause()
      }
    }
    let rooms = try await database.read { transaction -> [(RoomID, Int64)] in
      try await transaction.query(
        "SELECT id, retention_days FROM rooms WHERE retention_days IS NOT NULL AND deleted_at IS NULL"
      ).map { (try $0.room(0), try $0.integer(1)) }
    }
    for (room, days) in rooms {
      while try await deleteSome(of: room, before: Self.day(days, before: now)) { await pause() }
    }
    guard let deletedDays else { return }
    while try await forgetSome(deletedBefore: Self.day(deletedDays, before: now)) { await pause() }
  }

  private static func day(_ days: Int64, before now: Timestamp) -> Timestamp {
    Timestamp(milliseconds: now.milliseconds - days * 86_400_000)
  }

  /// Deletes some messages of a room that are older than this, and what they have said. Returns whether there may be more.
  private func deleteSome(of room: RoomID, before end: Timestamp) async throws -> Bool {
    let from = retained.withLock { $0[room] } ?? 0
    // Times never go backwards within a room. So nothing behind the first that is too young is read.
    let rows = try await database.read { transaction in
      try await transaction.query(
        """
        SELECT seq, type, ts FROM entries WHERE room_id = $1 AND seq > $2
        ORDER BY seq LIMIT $3
        """, [.room(room), .integer(from), .integer(Int64(Self.messagesPerTransaction))])
    }
    let old = try rows.prefix { try $0.time(2) < end }
    guard let last = try old.last?.integer(0) else { return false }
    let messages = try old.filter { EntryCoding.Code.isMessage(try $0.integer(1)) }
    if !messages.isEmpty {
      try await database.write(.essential) { transaction in
        try await transaction.exclusively(on: Self.lockNumber)
        // Also nothing is kept of what was deleted before.
        try await self.removal.delete(
          try messages.map { (room, try $0.integer(0)) }, keepsNothing: true, in: transaction)
      }
    }
    retained.withLock { $0[room] = last }
    return old.count == Self.messagesPerTransaction
  }

  /// Removes some of what was said in messages that were deleted before this. Returns whether there may be more.
  private func forgetSome(deletedBefore end: Timestamp) async throws -> Bool {
    try await database.write(.essential) { transaction in
      let rows = try await transaction.query(
        """
        SELECT room_id, seq, version_seq FROM earlier_texts
        WHERE deleted_at IS NOT NULL AND deleted_at < $1 LIMIT $2
        """, [.time(end), .integer(Int64(Self.messagesPerTransaction))])
      _ = try await transaction.pipeline(
        rows.map {
          Statement(
            "DELETE FROM earlier_texts WHERE room_id = $1 AND seq = $2 AND version_seq = $3",
            [.room(try $0.room(0)), .integer(try $0.integer(1)), .integer(try $0.integer(2))])
        })
      return rows.count == Self.messagesPerTransaction
    }
  }
}
