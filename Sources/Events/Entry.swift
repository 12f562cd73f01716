package import Basics

/// One line of a room's log, committed. Immutable and shared by reference on its way to the sockets.
package final class Entry: Sendable {
  package let roomID: RoomID
  /// 1, 2, 3 ... within the room, without gaps.
  package let seq: Int64
  package let id: MessageID
  /// `text`, or what kind of attachment `data` names.
  package let type: MessageType
  package let from: UserID
  /// The room's channel as clients name it.
  package let channelID: String
  package let data: String
  /// Never before that of the entry with the seq below.
  package let ts: Timestamp
  /// What the sender called it, for the sender's eyes only.
  package let clientID: String?

  package init(
    roomID: RoomID, seq: Int64, id: MessageID, type: MessageType, from: UserID, channelID: String,
    data: String, ts: Timestamp, clientID: String?
  ) {
    self.roomID = roomID
    self.seq = seq
    self.id = id
    self.type = type
    self.from = from
    self.channelID = channelID
    self.data = data
    self.ts = ts
    self.clientID = clientID
  }
}

/// What a message holds (seed 001).
package enum MessageType: String, Sendable, CaseIterable {
  case text, image, video, audio, file

  /// As the database keeps it.
  package var code: Int64 {
    switch self {
    case .text: 0
    case .image: 1
    case .video: 2
    case .audio: 3
    case .file: 4
    }
  }

  package init?(code: Int64) {
    guard let type = Self.allCases.first(where: { $0.code == code }) else { return nil }
    self = type
  }
}
