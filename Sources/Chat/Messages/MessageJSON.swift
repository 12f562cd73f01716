internal import Access
package import Basics
package import Events

/// Messages as JSON, in the answers of requests and in frames.
extension JSONWriter {
  /// A message or an event in its present state. `client_id` is included for its sender only. What this node cannot
  /// show has the type `unknown`.
  mutating func value(_ message: MessageView, for caller: UserID) {
    let entry = message.entry
    let (type, data, status) = Self.summary(of: entry.body)
    object {
      $0.member("id", entry.id)
      $0.member("room_id", entry.roomID.value)
      $0.member("channel_id", entry.channelID)
      $0.member("seq", entry.seq)
      $0.member("type", type)
      $0.member("from", entry.from)
      $0.recipient(of: entry)
      $0.member("data", data)
      $0.member("content", data)
      $0.member("emitter", entry.from)
      $0.member("ts", entry.ts)
      $0.member("status", status)
      if case .message(let content) = entry.body, let extras = content.extras {
        $0.members(of: extras, isSourceReadable: message.isSourceReadable)
      }
      if let editedAt = message.editedAt { $0.member("edited_at", editedAt) }
      if let deletedAt = message.deletedAt { $0.member("deleted_at", deletedAt) }
      if !message.reactions.isEmpty {
        $0.key("reactions")
        $0.array(of: message.reactions) { $0.value($1) }
      }
      if case .event(let event) = entry.body {
        $0.key("event")
        $0.object { $0.members(of: event) }
      }
      $0.member("updated_seq", message.updatedSeq)
      if let clientID = entry.clientID, entry.from == caller { $0.member("client_id", clientID) }
    }
  }

  private static func summary(
    of body: EntryBody
  ) -> (type: String, data: String, status: String) {
    switch body {
    case .message(let content):
      (content.type.rawValue, content.data, content.extras?.isEdited == true ? "edited" : "sent")
    case .erased(let type): (type.rawValue, "", "deleted")
    case .event: ("event", "", "sent")
    case .edit, .deletion, .reaction, .unknown: ("unknown", "", "sent")
    }
  }

  private mutating func value(_ count: ReactionCount) {
    object {
      $0.member("emoji", count.emoji)
      $0.member("count", count.people)
      $0.member("me", count.isMine)
    }
  }

  mutating func value(_ text: EarlierText) {
    object {
      $0.member("data", text.data)
      $0.member("ts", text.ts)
    }
  }

  mutating func value(_ reaction: Reaction) {
    object {
      $0.member("emoji", reaction.emoji)
      $0.member("user_id", reaction.userID)
      $0.member("ts", reaction.ts)
    }
  }

  /// The members `reply_to`, `mentions` and `forward`. The room that a message was forwarded from is only named to
  /// those who may read it.
  package mutating func members(of extras: MessageExtras, isSourceReadable: Bool) {
    if let replyTo = extras.replyTo { member("reply_to", replyTo) }
    if !extras.mentions.isEmpty { mentions(extras.mentions) }
    guard let forward = extras.forward else { return }
    key("forward")
    object {
      $0.member("message_id", forward.message)
      $0.member("from", forward.from)
      if isSourceReadable { $0.member("room_id", forward.room.value) }
    }
  }

  package mutating func mentions(_ users: [UserID]) {
    key("mentions")
    array(of: users) { $0.value($1) }
  }

  /// `to`: the one person whom the entry is for, or `*` for everyone.
  package mutating func recipient(of entry: Entry) {
    if let to = entry.to { member("to", to) } else { member("to", "*") }
  }

  /// The members that describe an event, in a message and in a frame.
  package mutating func members(of event: RoomEvent) {
    member("event", event.kind.rawValue)
    if let subject = event.subject { member("subject", subject) }
    if let name = event.name { member("name", name) }
  }
}
