internal import Basics
internal import Database
internal import Events

/// Deletes messages in the name of the server, for `MessageExpiry`, erasure and moderation: everyone hears of it, and nobody
/// is named.
struct MessageRemoval: Sendable {
  private let directory: RoomDirectory
  private let appender: LogAppender

  init(directory: RoomDirectory, appender: LogAppender) {
    self.directory = directory
    self.appender = appender
  }

  /// Appends the deletions of these messages. Those in rooms that do not exist are left alone, and so is what is deleted
  /// already. With `keepsNothing` also what they have said goes at once, which is otherwise kept for some days.
  func delete(
    _ messages: [(room: RoomID, seq: Int64)], keepsNothing: Bool, in transaction: Transaction
  ) async throws {
    let rooms = try await directory.readAgain(Array(Set(messages.map(\.room))), in: transaction)
    let drafts = messages.compactMap { message in
      rooms[message.room].map {
        Draft(
          roomID: $0.id, channelID: $0.entryChannelID, from: nil, body: .deletion(of: message.seq),
          access: .decided)
      }
    }
    try await appender.append(drafts, in: transaction)
    guard keepsNothing else { return }
    _ = try await transaction.pipeline(
      messages.map {
        Statement(
          "DELETE FROM earlier_texts WHERE room_id = $1 AND seq = $2",
          [.room($0.room), .integer($0.seq)])
      })
  }
}
