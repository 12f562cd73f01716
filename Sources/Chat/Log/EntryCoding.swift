internal import Access
internal import Basics
internal import Crypto
internal import Database
internal import Events

/// The representation of bodies in the log's tables: a code in `entries.type`, the seq that it refers to in
/// `target_seq`, the text of messages in `contents`, and everything else in `extras`.
///
/// An unknown code was written by a newer release. The missing content of a message is lost, unless `erased_at` says
/// that the message was deleted. An edit has no content of its own: while the message has its text, that is read.
enum EntryCoding {
  /// What is written for a body.
  struct Columns {
    let code: Int64
    var target: Int64?
    /// Goes to `contents`, under the entry's id.
    var content: String?
    var extras: String?
  }

  /// What was read for a body.
  struct Stored {
    let code: Int64
    let target: Int64?
    let content: String?
    let extras: String?
    let isErased: Bool
    /// Whether the message has another text than the one it was sent with.
    let isEdited: Bool
  }

  /// Codes below 16 are types of messages. The others are kinds of entries.
  enum Code {
    static let edit: Int64 = 16
    static let deletion: Int64 = 17
    static let reaction: Int64 = 18
    static let reactionRemoved: Int64 = 19
    static let event: Int64 = 20
    /// A message of type text.
    static let text: Int64 = 0
    /// An entry whose row is missing; never stored.
    static let lost: Int64 = -1

    static func isMessage(_ code: Int64) -> Bool { (0..<edit).contains(code) }
    /// Whether it is an edit or a deletion.
    static func changesText(_ code: Int64) -> Bool { code == edit || code == deletion }
  }

  private static let messageTypes: [(code: Int64, type: MessageType)] = [
    (0, .text), (1, .image), (2, .video), (3, .audio), (4, .file),
  ]

  private static func code(of type: MessageType) -> Int64? {
    messageTypes.first { $0.type == type }?.code
  }

  /// Returns the columns of a body; nil for `erased` and `unknown`, which are never written.
  static func columns(of body: EntryBody) -> Columns? {
    switch body {
    case .message(let content):
      code(of: content.type).map {
        Columns(
          code: $0, target: content.extras?.replyTo, content: content.data,
          extras: content.extras.flatMap(text))
      }
    case .edit(let of, _, _): Columns(code: Code.edit, target: of)
    case .deletion(let of): Columns(code: Code.deletion, target: of)
    case .reaction(let to, let emoji, let isRemoved):
      Columns(code: isRemoved ? Code.reactionRemoved : Code.reaction, target: to, extras: emoji)
    case .event(let event): Columns(code: Code.event, content: text(of: event))
    case .erased, .unknown: nil
    }
  }

  static func body(_ stored: Stored) -> EntryBody {
    if let type = messageTypes.first(where: { $0.code == stored.code })?.type {
      if stored.isErased { return .erased(type) }
      guard let content = stored.content else { return .unknown(code: stored.code) }
      return .message(MessageContent(type: type, data: content, extras: extras(stored)))
    }
    switch (stored.code, stored.target) {
    case (Code.edit, let target?):
      return .edit(
        of: target, data: stored.content,
        mentions: stored.content == nil ? nil : mentions(in: stored.extras))
    case (Code.deletion, let target?): return .deletion(of: target)
    case (Code.reaction, let target?), (Code.reactionRemoved, let target?):
      guard let emoji = stored.extras else { break }
      return .reaction(to: target, emoji: emoji, isRemoved: stored.code == Code.reactionRemoved)
    case (Code.event, _): if let event = stored.content.flatMap(event) { return .event(event) }
    default: break
    }
    return .unknown(code: stored.code)
  }

  /// An entry whose row is missing.
  static let lost = EntryBody.unknown(code: Code.lost)

  // MARK: Extras

  /// Returns what `entries.extras` holds for a message: JSON, without the answered message, which is in `target_seq`.
  /// Nil if there is nothing.
  static func text(of extras: MessageExtras) -> String? {
    guard !extras.mentions.isEmpty || extras.forward != nil else { return nil }
    var writer = JSONWriter()
    writer.object {
      if !extras.mentions.isEmpty { $0.mentions(extras.mentions) }
      guard let forward = extras.forward else { return }
      $0.key("forward")
      $0.object {
        $0.member("id", forward.message)
        if let from = forward.from { $0.member("from", from) }
        $0.member("room", forward.room.value)
        $0.member("seq", forward.seq)
      }
    }
    return String(decoding: writer.bytes, as: UTF8.self)
  }

  private static func extras(_ stored: Stored) -> MessageExtras? {
    // What cannot be parsed was written by a newer release.
    let object = stored.extras.flatMap { (try? JSONParser.parse(Array($0.utf8)))?.object }
    return MessageExtras.make(
      replyTo: stored.code == Code.edit ? nil : stored.target, mentions: mentions(object),
      forward: object?["forward"]?.object.flatMap(forward), isEdited: stored.isEdited)
  }

  private static func mentions(_ object: JSONObject?) -> [UserID] {
    guard case .array(let ids)? = object?["mentions"] else { return [] }
    return ids.compactMap { $0.string.flatMap { UserID($0) } }
  }

  /// The mentions in what `entries.extras` holds for a message.
  static func mentions(in extras: String?) -> [UserID] {
    mentions(extras.flatMap { (try? JSONParser.parse(Array($0.utf8)))?.object })
  }

  /// Returns what `entries.extras` holds for a message that mentions these people from now on.
  static func extras(_ extras: String?, mentioning users: [UserID]) -> String? {
    let object = extras.flatMap { (try? JSONParser.parse(Array($0.utf8)))?.object }
    return MessageExtras.make(
      mentions: users, forward: object?["forward"]?.object.flatMap(forward)
    ).flatMap(text)
  }

  private static func forward(_ object: JSONObject) -> Forward? {
    guard let id = object["id"]?.string.flatMap({ MessageID($0) }),
      let room = object["room"]?.wholeNumber, let seq = object["seq"]?.wholeNumber
    else { return nil }
    return Forward(
      message: id, from: object["from"]?.string.flatMap { UserID($0) }, room: RoomID(room), seq: seq
    )
  }

  // MARK: Events

  private static func text(of event: RoomEvent) -> String {
    var writer = JSONWriter()
    writer.object {
      $0.member("event", event.kind.rawValue)
      if let subject = event.subject { $0.member("subject", subject) }
      if let name = event.name { $0.member("name", name) }
    }
    return String(decoding: writer.bytes, as: UTF8.self)
  }

  private static func event(_ text: String) -> RoomEvent? {
    // A text that cannot be parsed was written by a newer release.
    guard let object = (try? JSONParser.parse(Array(text.utf8)))?.object,
      let kind = object["event"]?.string.flatMap(RoomEvent.Kind.init(rawValue:))
    else { return nil }
    return RoomEvent(
      kind, subject: object["subject"]?.string.flatMap { UserID($0) }, name: object["name"]?.string)
  }

  // MARK: Digests

  /// The digest by which two drafts with the same client id are compared. For a message with only a type and data it is
  /// that of the first release. For a forwarded message it covers what was forwarded, whose text may have changed since.
  /// Nil for `erased` and `unknown`.
  static func digest(_ body: EntryBody) -> UUID? {
    var bytes: [UInt8]
    switch body {
    case .message(let content):
      bytes = []
      bytes.reserveCapacity(content.data.utf8.count + 8)
      bytes.append(contentsOf: content.type.rawValue.utf8)
      bytes.append(0)
      let forward = content.extras?.forward
      if forward == nil { bytes.append(contentsOf: content.data.utf8) }
      if let forward { bytes += "\0forward_of\0\(forward.room)\0\(forward.seq)".utf8 }
      if let replyTo = content.extras?.replyTo { bytes += "\0reply_to\0\(replyTo)".utf8 }
      if let mentions = content.extras?.mentions, !mentions.isEmpty { bytes += digested(mentions) }
    case .edit(let of, let data, let mentions):
      bytes = Array("edit\0\(of)\0\(data ?? "")".utf8) + (mentions.map(digested) ?? [])
    case .deletion(let of): bytes = Array("delete\0\(of)".utf8)
    case .reaction(let to, let emoji, let isRemoved):
      bytes = Array("react\0\(to)\0\(isRemoved)\0\(emoji)".utf8)
    case .event(let event): bytes = Array("event\0\(text(of: event))".utf8)
    case .erased, .unknown: return nil
    }
    return Hash.blake2b128(bytes)
  }

  /// Texts contain no U+0000, so no text can look like one with mentions.
  private static func digested(_ mentions: [UserID]) -> [UInt8] {
    let ids = mentions.map(\.description).sorted().joined(separator: ",")
    return Array("\0mentions\0\(ids)".utf8)
  }
}
