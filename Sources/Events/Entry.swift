package import Basics
internal import Synchronization

/// A committed entry of a room's log. Immutable, and shared by reference on its way to the sockets.
package final class Entry: Sendable {
  package let roomID: RoomID
  /// The position in the room's log: 1, 2, 3 and so on, without gaps.
  package let seq: Int64
  package let id: MessageID
  /// The author; nil if it is the server itself.
  package let from: UserID?
  /// The one person whom the entry is for, in a dialog of a team; nil for everyone in the room.
  package let to: UserID?
  /// The entry's `channel_id` in frames.
  package let channelID: String
  /// The time of the entry, never earlier than that of the entry before it.
  package let ts: Timestamp
  /// The `client_id` that the client chose for the message. Only the sender is shown it.
  package let clientID: String?
  /// The number of messages in the room up to and including this entry. Unread counts are differences of ordinals.
  package let ordinal: Int64
  package let body: EntryBody
  private let encoded = Mutex<[UInt8]?>(nil)

  package init(
    roomID: RoomID, seq: Int64, id: MessageID, from: UserID?, to: UserID? = nil,
    channelID: String, ts: Timestamp, clientID: String?, ordinal: Int64, body: EntryBody
  ) {
    self.roomID = roomID
    self.seq = seq
    self.id = id
    self.from = from
    self.to = to
    self.channelID = channelID
    self.ts = ts
    self.clientID = clientID
    self.ordinal = ordinal
    self.body = body
  }

  /// The encoded frame; nil until one event loop has encoded it, so that the others need not. Only the loops know its
  /// format.
  package var encodedFrame: [UInt8]? {
    get { encoded.withLock { $0 } }
    set { encoded.withLock { $0 = newValue } }
  }

  /// The approximate memory that the entry takes, in bytes. Every bound on entries counts this.
  package var cost: Int { Self.overheadBytes + body.contentBytes + (clientID?.utf8.count ?? 0) }

  private static let overheadBytes = 200
}

/// The content of an entry.
///
/// The numbers in edits, deletions and reactions are seqs of earlier entries of the same room.
package enum EntryBody: Sendable, Equatable {
  case message(MessageContent)
  /// A message gets a new text, and mentions these people from now on. Both are nil if the message has another text by
  /// now, or was deleted. In a draft nil mentions stay what they are.
  case edit(of: Int64, data: String?, mentions: [UserID]?)
  case deletion(of: Int64)
  /// An emoji was added to a message, or removed from it.
  case reaction(to: Int64, emoji: String, isRemoved: Bool)
  case event(RoomEvent)
  /// A message that was deleted. Its seq remains.
  case erased(MessageType)
  /// An entry that this node cannot show: its content is lost, or it is of a kind that only a newer release knows, with
  /// this code. Clients are told its seq, so that they do not wait for it.
  case unknown(code: Int64)

  /// Whether the entry counts as a message, even after it was deleted.
  package var isMessage: Bool {
    switch self {
    case .message, .erased: true
    case .edit, .deletion, .reaction, .event, .unknown: false
    }
  }

  package var isUnknown: Bool { if case .unknown = self { true } else { false } }

  /// The size of the texts in the content, in bytes.
  package var contentBytes: Int {
    switch self {
    case .message(let content): content.data.utf8.count + (content.extras?.bytes ?? 0)
    case .edit(_, let data, let mentions):
      (data?.utf8.count ?? 0) + (mentions?.count ?? 0) * MemoryLayout<UserID>.size
    case .reaction(_, let emoji, _): emoji.utf8.count
    case .event(let event): event.name?.utf8.count ?? 0
    case .deletion, .erased, .unknown: 0
    }
  }
}

/// A change of a room or of its people, as the log records it.
package struct RoomEvent: Sendable, Equatable {
  package enum Kind: String, Sendable, CaseIterable {
    case joined, left, added, removed, renamed, created
    case roleChanged = "role_changed"
    case adminMade = "admin_made"
    case adminUnmade = "admin_unmade"
  }

  package let kind: Kind
  /// The person that the event is about; nil if it is about the room.
  package let subject: UserID?
  /// The name that the event introduced: the room's new name, or the name of a role.
  package let name: String?

  package init(_ kind: Kind, subject: UserID? = nil, name: String? = nil) {
    self.kind = kind
    self.subject = subject
    self.name = name
  }
}
