package import Basics
internal import Synchronization

/// One line of a room's log, committed. Immutable and shared by reference on its way to the sockets.
package final class Entry: Sendable {
  package let roomID: RoomID
  /// 1, 2, 3 ... within the room, without gaps.
  package let seq: Int64
  package let id: MessageID
  /// Who wrote it; nil where the server itself did.
  package let from: UserID?
  /// The room's channel as clients name it.
  package let channelID: String
  /// Never before that of the entry with the seq below.
  package let ts: Timestamp
  /// What the sender called it, for the sender's eyes only.
  package let clientID: String?
  /// How many messages the room has up to and including this entry: what unread counts from.
  package let ordinal: Int64
  package let body: EntryBody
  private let encoded = Mutex<[UInt8]?>(nil)

  package init(
    roomID: RoomID, seq: Int64, id: MessageID, from: UserID?, channelID: String, ts: Timestamp,
    clientID: String?, ordinal: Int64, body: EntryBody
  ) {
    self.roomID = roomID
    self.seq = seq
    self.id = id
    self.from = from
    self.channelID = channelID
    self.ts = ts
    self.clientID = clientID
    self.ordinal = ordinal
    self.body = body
  }

  /// The entry as it is delivered, where an event loop has made that already: so that the others need
  /// not. Its meaning is theirs.
  package var encodedFrame: [UInt8]? {
    get { encoded.withLock { $0 } }
    set { encoded.withLock { $0 = newValue } }
  }

  /// What it takes of memory, about: what every bound in bytes counts.
  package var cost: Int { Self.overheadBytes + body.contentBytes + (clientID?.utf8.count ?? 0) }

  private static let overheadBytes = 200
}

/// What an entry says.
///
/// The seqs that edits, deletions and reactions name are of entries of the same room that came before.
package enum EntryBody: Sendable, Equatable {
  case message(MessageContent)
  /// A message has another text from here on; nil where that was destroyed since.
  case edit(of: Int64, data: String?)
  case deletion(of: Int64)
  /// An emoji was put on a message, or taken back.
  case reaction(to: Int64, emoji: String, isRemoved: Bool)
  case event(RoomEvent)
  /// A message whose content was destroyed on purpose. Its seq stays.
  case erased(MessageType)
  /// What this node cannot show: a kind of a newer release's, by its code, or a content that is lost.
  /// Clients are told of its seq, so that none waits for it.
  case unknown(code: Int64)

  /// Whether it counts as a message, also after its content is gone.
  package var isMessage: Bool {
    switch self {
    case .message, .erased: true
    case .edit, .deletion, .reaction, .event, .unknown: false
    }
  }

  package var isUnknown: Bool { if case .unknown = self { true } else { false } }

  /// Bytes of what someone wrote.
  package var contentBytes: Int {
    switch self {
    case .message(let content): content.data.utf8.count
    case .edit(_, let data): data?.utf8.count ?? 0
    case .reaction(_, let emoji, _): emoji.utf8.count
    case .event(let event): event.name?.utf8.count ?? 0
    case .deletion, .erased, .unknown: 0
    }
  }
}

/// What a person sent.
package struct MessageContent: Sendable, Equatable {
  package let type: MessageType
  /// The text, or the id of what the type names.
  package let data: String

  package init(type: MessageType, data: String) {
    self.type = type
    self.data = data
  }
}

/// What a message holds.
package enum MessageType: String, Sendable, CaseIterable {
  case text, image, video, audio, file
}

/// Something that happened to a room or its people, as the log tells it.
package struct RoomEvent: Sendable, Equatable {
  package enum Kind: String, Sendable, CaseIterable {
    case joined, left, added, removed, renamed, created
    case roleChanged = "role_changed"
    case adminMade = "admin_made"
    case adminUnmade = "admin_unmade"
  }

  package let kind: Kind
  /// Whom it is about; nil where it is about the room.
  package let subject: UserID?
  /// A name that it gave: the room's new one, a role's.
  package let name: String?

  package init(_ kind: Kind, subject: UserID? = nil, name: String? = nil) {
    self.kind = kind
    self.subject = subject
    self.name = name
  }
}
