package import Access
package import Basics
package import Database
package import Events

/// What messages refer to outside of their room's log: the people whom they mention, and the messages that they are
/// copies of. Checked before a draft is submitted, so that the log's commit need not read other rooms.
package struct MessageReferences: Sendable {
  private let database: any SQLDatabase
  private let directory: RoomDirectory
  private let memberships: any Memberships

  /// The most people whom one message may mention.
  package static let maximumMentions = 50

  package init(
    database: any SQLDatabase, directory: RoomDirectory, memberships: any Memberships
  ) {
    self.database = database
    self.directory = directory
    self.memberships = memberships
  }

  /// Returns the body with everything that it refers to: the content of the message that it forwards. `body` names that
  /// message by its room and seq alone. A body without mentions and forwarded message is returned unchanged.
  ///
  /// Throws what a caller gets who may not write in the room; `validation_failed` if somebody who is mentioned may not
  /// read the room; and for a message to forward `room_not_found`, `forbidden`, `secret_room`, `message_not_found`,
  /// `message_deleted`, and `validation_failed` for an event.
  package func resolve(
    _ body: EntryBody, in id: RoomID, as caller: Caller
  ) async throws -> EntryBody {
    guard body.hasReferences else { return body }
    let room = try await database.read { try await self.directory.read(id, in: $0) }
    guard let room else { throw AppError(.roomNotFound) }
    guard RuleEngine.grantToWrite(caller, in: room) != nil else {
      throw AppError(RuleEngine.refusalToWrite(caller, in: room))
    }
    var mentions = body.mentions
    if case .edit(let seq, _, _) = body, !mentions.isEmpty {
      // Who is mentioned already may stay so, even if they have left since.
      let present = try await database.read { try await Self.mentions(at: seq, in: room, $0) }
      mentions.removeAll(where: present.contains)
    }
    try await check(mentions, in: room)
    guard case .message(let content) = body, let forward = content.extras?.forward else {
      return body
    }
    return .message(try await copy(forward, content.extras, as: caller))
  }

  // MARK: Mentions

  /// Throws `validation_failed` unless all of these people may read the room.
  private func check(_ mentions: [UserID], in room: Room) async throws {
    if mentions.isEmpty { return }
    let affiliations = try await memberships.affiliations(
      atLeast: Dictionary(uniqueKeysWithValues: mentions.map { ($0, 0) }))
    let strangers = mentions.filter { user in
      let own = affiliations[user] ?? Affiliations(version: 0)
      return !RuleEngine.standing(of: user, own, in: room).permissions.contains(.read)
    }
    guard !strangers.isEmpty else { return }
    let names = strangers.map(\.description).joined(separator: ", ")
    throw AppError(
      .validationFailed,
      details: [.init(field: "mentions", message: "cannot read this room: \(names)")])
  }

  /// The people whom a message mentions now.
  private static func mentions(
    at seq: Int64, in room: Room, _ transaction: Transaction
  ) async throws -> [UserID] {
    let row = try await transaction.first(
      "SELECT extras FROM entries WHERE room_id = $1 AND seq = $2",
      [.room(room.id), .integer(seq)])
    guard let row else { return [] }
    return EntryCoding.mentions(in: try row.optional(0, row.text))
  }

  // MARK: Forwarding

  private func copy(
    _ forward: Forward, _ extras: MessageExtras?, as caller: Caller
  ) async throws -> MessageContent {
    try await database.read { transaction in
      guard let source = try await self.directory.read(forward.room, in: transaction) else {
        throw AppError(.roomNotFound)
      }
      let standing = RuleEngine.standing(of: caller, in: source)
      guard standing.isMember else { throw AppError(.roomNotFound) }
      guard standing.permissions.contains(.read) else { throw AppError(.forbidden) }
      if source.kind == .secret { throw AppError(.secretRoom) }
      let rows = try await transaction.query(
        EntryRows.sql,
        [
          .room(source.id), .integer(forward.seq - 1), .integer(forward.seq + 1), .integer(1),
          .integer(1),
        ])
      guard let entry = try await EntryRows.entries(rows, source, in: transaction).first else {
        throw AppError(.messageNotFound)
      }
      switch entry.body {
      case .message(let content):
        return MessageContent(
          type: content.type, data: content.data,
          extras: .make(
            replyTo: extras?.replyTo, mentions: extras?.mentions ?? [],
            forward: Forward(
              message: entry.id, from: entry.from, room: forward.room, seq: forward.seq)))
      case .erased: throw AppError(.messageDeleted)
      case .event:
        throw AppError(
          .validationFailed,
          details: [.init(field: "forward_of", message: "names an event, not a message")])
      case .edit, .deletion, .reaction, .unknown: throw AppError(.messageNotFound)
      }
    }
  }
}

extension EntryBody {
  /// Whether `MessageReferences` has something to check.
  package var hasReferences: Bool {
    if case .message(let content) = self, content.extras?.forward != nil { return true }
    return !mentions.isEmpty
  }

  fileprivate var mentions: [UserID] {
    switch self {
    case .message(let content): content.extras?.mentions ?? []
    case .edit(_, _, let mentions): mentions ?? []
    default: []
    }
  }
}
