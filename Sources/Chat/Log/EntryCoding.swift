internal import Access
internal import Basics
internal import Crypto
internal import Database
internal import Events

/// The representation of bodies in the log's tables: a code in `entries.type`, the seq that it refers to in
/// `target_seq`, and the text in `contents`.
///
/// An unknown code was written by a newer release. A missing content is lost, unless `erased_at` says that it was
/// destroyed.
enum EntryCoding {
  struct Columns {
    let code: Int64
    let target: Int64?
    let content: String?
  }

  /// Codes below 16 are types of messages. The others are kinds of entries.
  private enum Code {
    static let edit: Int64 = 16
    static let deletion: Int64 = 17
    static let reaction: Int64 = 18
    static let reactionRemoved: Int64 = 19
    static let event: Int64 = 20
    /// An entry whose row is missing; never stored.
    static let lost: Int64 = -1
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
      code(of: content.type).map { Columns(code: $0, target: nil, content: content.data) }
    case .edit(let of, let data): Columns(code: Code.edit, target: of, content: data)
    case .deletion(let of): Columns(code: Code.deletion, target: of, content: nil)
    case .reaction(let to, let emoji, let isRemoved):
      Columns(code: isRemoved ? Code.reactionRemoved : Code.reaction, target: to, content: emoji)
    case .event(let event): Columns(code: Code.event, target: nil, content: text(of: event))
    case .erased, .unknown: nil
    }
  }

  static func body(code: Int64, target: Int64?, content: String?, isErased: Bool) -> EntryBody {
    if let type = messageTypes.first(where: { $0.code == code })?.type {
      if let content { return .message(MessageContent(type: type, data: content)) }
      return isErased ? .erased(type) : .unknown(code: code)
    }
    switch (code, target, content) {
    case (Code.edit, let target?, let content?): return .edit(of: target, data: content)
    case (Code.edit, let target?, nil) where isErased: return .edit(of: target, data: nil)
    case (Code.deletion, let target?, _): return .deletion(of: target)
    case (Code.reaction, let target?, let emoji?):
      return .reaction(to: target, emoji: emoji, isRemoved: false)
    case (Code.reactionRemoved, let target?, let emoji?):
      return .reaction(to: target, emoji: emoji, isRemoved: true)
    case (Code.event, _, let text?):
      return event(text).map { .event($0) } ?? .unknown(code: code)
    default: return .unknown(code: code)
    }
  }

  /// An entry whose row is missing.
  static let lost = EntryBody.unknown(code: Code.lost)

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

  /// The digest by which two drafts with the same client id are compared. For a message it covers type and data, as in
  /// the first release. Nil for `erased` and `unknown`.
  static func digest(_ body: EntryBody) -> UUID? {
    var bytes: [UInt8]
    switch body {
    case .message(let content):
      bytes = []
      bytes.reserveCapacity(content.data.utf8.count + 8)
      bytes.append(contentsOf: content.type.rawValue.utf8)
      bytes.append(0)
      bytes.append(contentsOf: content.data.utf8)
    case .edit(let of, let data): bytes = Array("edit\0\(of)\0\(data ?? "")".utf8)
    case .deletion(let of): bytes = Array("delete\0\(of)".utf8)
    case .reaction(let to, let emoji, let isRemoved):
      bytes = Array("react\0\(to)\0\(isRemoved)\0\(emoji)".utf8)
    case .event(let event): bytes = Array("event\0\(text(of: event))".utf8)
    case .erased, .unknown: return nil
    }
    return Hash.blake2b128(bytes)
  }
}
