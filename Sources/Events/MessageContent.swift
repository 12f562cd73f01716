package import Basics

/// The content of a message.
package struct MessageContent: Sendable, Equatable {
  package let type: MessageType
  /// The text, or the id of the image, video, audio or file.
  package let data: String
  /// What few messages have; nil for the others.
  package let extras: MessageExtras?

  package init(type: MessageType, data: String, extras: MessageExtras? = nil) {
    self.type = type
    self.data = data
    self.extras = extras
  }
}

/// The kind of a message's content.
package enum MessageType: String, Sendable, CaseIterable {
  case text, image, video, audio, file
}

/// What a message refers to, besides its content. A class, so that the messages without it stay small.
package final class MessageExtras: Sendable, Equatable {
  /// The seq of the message of the same room that this one answers.
  package let replyTo: Int64?
  /// The people whom the message names, each once.
  package let mentions: [UserID]
  package let forward: Forward?
  /// Whether the message has another text than the one it was sent with. Only true in entries that were read from the
  /// log.
  package let isEdited: Bool

  /// Returns nil if nothing is given.
  package static func make(
    replyTo: Int64? = nil, mentions: [UserID] = [], forward: Forward? = nil, isEdited: Bool = false
  ) -> MessageExtras? {
    guard replyTo != nil || !mentions.isEmpty || forward != nil || isEdited else { return nil }
    return MessageExtras(
      replyTo: replyTo, mentions: mentions, forward: forward, isEdited: isEdited)
  }

  private init(replyTo: Int64?, mentions: [UserID], forward: Forward?, isEdited: Bool) {
    self.replyTo = replyTo
    self.mentions = mentions
    self.forward = forward
    self.isEdited = isEdited
  }

  package static func == (left: MessageExtras, right: MessageExtras) -> Bool {
    left.replyTo == right.replyTo && left.mentions == right.mentions
      && left.forward == right.forward && left.isEdited == right.isEdited
  }

  /// The approximate memory that it takes, in bytes.
  var bytes: Int { 100 + mentions.count * MemoryLayout<UserID>.size }
}

/// The message that a forwarded message is a copy of.
package struct Forward: Sendable, Equatable {
  package let message: MessageID
  /// Its author; nil if it was the server itself.
  package let from: UserID?
  package let room: RoomID
  package let seq: Int64

  package init(message: MessageID, from: UserID?, room: RoomID, seq: Int64) {
    self.message = message
    self.from = from
    self.room = room
    self.seq = seq
  }
}
