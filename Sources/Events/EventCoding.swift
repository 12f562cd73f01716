internal import Access
internal import Basics

/// The encoding of events for other nodes, which may run another release.
///
/// Each event is encoded as one byte for its kind, the length of its content, and the content. A node skips kinds that
/// it does not know, and finds what they would have told in the database. An entry's envelope is the same in every
/// release. A node decodes a body of an unknown kind as `unknown`, so that the seq advances there, too.
///
/// Kinds and their contents never change their meaning. New fields are added at the end of a content, where older nodes
/// ignore them.
package enum EventCoding {
  fileprivate enum Kind: UInt8 {
    case entry = 1
    case sessionEnded, affiliationsChanged, roomChanged, invited, roomDeleted, signal
  }

  fileprivate enum BodyKind: UInt8 {
    case message = 1
    case edit, deletion, reaction, event, erased
  }

  // MARK: Writing

  /// Encodes those of the events that are shared with other nodes, in order.
  package static func encode(_ events: [Event]) -> [UInt8] {
    var writer = WireWriter()
    for event in events {
      switch event {
      case .entry(let entry, _): writer.event(.entry) { $0.entry(entry) }
      case .access(let change): encode(change, &writer)
      case .signal(let signal): writer.event(.signal) { $0.signal(signal) }
      // These stay on their node.
      case .receipt, .compared, .epochChanged, .missed: break
      }
    }
    return writer.bytes
  }

  private static func encode(_ change: AccessChange, _ writer: inout WireWriter) {
    switch change {
    case .sessionEnded(let id): writer.event(.sessionEnded) { $0.uuid(id.uuid) }
    case .affiliationsChanged(let user, let version):
      writer.event(.affiliationsChanged) {
        $0.uuid(user.uuid)
        $0.integer(version)
      }
    case .roomChanged(let room, let version):
      writer.event(.roomChanged) {
        $0.integer(room.value)
        $0.integer(version)
      }
    case .invited(let room, let subject, let version):
      writer.event(.invited) {
        $0.integer(room.value)
        $0.uuid(subject)
        $0.integer(version)
      }
    case .roomDeleted(let room, let version):
      writer.event(.roomDeleted) {
        $0.integer(room.value)
        $0.integer(version)
      }
    }
  }

  // MARK: Reading

  /// Decodes events, without those of unknown kinds. Nil if the bytes are not an encoding of events.
  package static func decode(_ bytes: ArraySlice<UInt8>) -> [Event]? {
    var reader = WireReader(bytes)
    var events: [Event] = []
    while !reader.isAtEnd {
      guard let code = reader.byte(), let content = reader.counted() else { return nil }
      guard let kind = Kind(rawValue: code) else { continue }
      var inner = WireReader(content)
      guard let event = decode(kind, &inner) else { return nil }
      events.append(event)
    }
    return events
  }

  private static func decode(_ kind: Kind, _ reader: inout WireReader) -> Event? {
    switch kind {
    case .entry: return reader.entry().map { .entry($0, origin: nil) }
    case .sessionEnded:
      return reader.uuid().map { .access(.sessionEnded(SessionID($0))) }
    case .affiliationsChanged:
      guard let user = reader.uuid(), let version = reader.integer(Int64.self) else { return nil }
      return .access(.affiliationsChanged(UserID(user), version: version))
    case .roomChanged:
      guard let room = reader.room(), let version = reader.integer(Int64.self) else { return nil }
      return .access(.roomChanged(room, version: version))
    case .invited:
      guard let room = reader.room(), let subject = reader.uuid(),
        let version = reader.integer(Int64.self)
      else { return nil }
      return .access(.invited(room, subject: subject, version: version))
    case .roomDeleted:
      guard let room = reader.room(), let version = reader.integer(Int64.self) else { return nil }
      return .access(.roomDeleted(room, version: version))
    case .signal: return reader.signal().map { .signal($0) }
    }
  }
}

extension WireWriter {
  fileprivate mutating func event(_ kind: EventCoding.Kind, _ body: (inout Self) -> Void) {
    byte(kind.rawValue)
    counted(body)
  }

  fileprivate mutating func entry(_ entry: Entry) {
    integer(entry.roomID.value)
    integer(entry.seq)
    uuid(entry.id.uuid)
    optional(entry.from) { $0.uuid($1.uuid) }
    text(entry.channelID)
    integer(entry.ts.milliseconds)
    optional(entry.clientID) { $0.text($1) }
    integer(entry.ordinal)
    body(entry.body)
    optional(entry.to) { $0.uuid($1.uuid) }
  }

  fileprivate mutating func signal(_ signal: Signal) {
    switch signal.audience {
    case .room(let room): optional(room) { $0.integer($1.value) }
    case .everyone: optional(nil as RoomID?) { $0.integer($1.value) }
    }
    text(signal.kind)
    counted { for byte in signal.content { $0.byte(byte) } }
  }

  private mutating func body(_ body: EntryBody) {
    switch body {
    case .message(let content):
      self.body(.message) {
        $0.text(content.type.rawValue)
        $0.text(content.data)
        if let extras = content.extras { $0.extras(extras) }
      }
    case .edit(let of, let data, let mentions):
      self.body(.edit) {
        $0.integer(of)
        $0.optional(data) { $0.text($1) }
        $0.users(mentions ?? [])
      }
    case .deletion(let of): self.body(.deletion) { $0.integer(of) }
    case .reaction(let to, let emoji, let isRemoved):
      self.body(.reaction) {
        $0.integer(to)
        $0.text(emoji)
        $0.byte(isRemoved ? 1 : 0)
      }
    case .event(let event):
      self.body(.event) {
        $0.text(event.kind.rawValue)
        $0.optional(event.subject) { $0.uuid($1.uuid) }
        $0.optional(event.name) { $0.text($1) }
      }
    case .erased(let type): self.body(.erased) { $0.text(type.rawValue) }
    case .unknown(let code):
      // 0 is not the code of any kind, so the receiving node decodes this as `unknown`, too.
      byte(0)
      counted { $0.integer(code) }
    }
  }

  private mutating func extras(_ extras: MessageExtras) {
    optional(extras.replyTo) { $0.integer($1) }
    users(extras.mentions)
    optional(extras.forward) {
      $0.uuid($1.message.uuid)
      $0.optional($1.from) { $0.uuid($1.uuid) }
      $0.integer($1.room.value)
      $0.integer($1.seq)
    }
    byte(extras.isEdited ? 1 : 0)
  }

  private mutating func users(_ users: [UserID]) {
    counted { for user in users { $0.uuid(user.uuid) } }
  }

  private mutating func body(_ kind: EventCoding.BodyKind, _ content: (inout Self) -> Void) {
    byte(kind.rawValue)
    counted(content)
  }
}

extension WireReader {
  fileprivate mutating func room() -> RoomID? {
    guard let value = integer(Int64.self), value > 0 else { return nil }
    return RoomID(value)
  }

  fileprivate mutating func entry() -> Entry? {
    guard let room = room(), let seq = integer(Int64.self), seq > 0, let id = uuid(),
      let from = optional({ $0.uuid() }), let channelID = text(),
      let ts = integer(Int64.self), let clientID = optional({ $0.text() }),
      let ordinal = integer(Int64.self), let kind = byte(), let content = counted()
    else { return nil }
    var inner = WireReader(content)
    guard let body = Self.body(kind, &inner) else { return nil }
    // Older nodes do not send it, because they have no dialogs of teams.
    let to = isAtEnd ? nil : optional({ $0.uuid() }) ?? nil
    return Entry(
      roomID: room, seq: seq, id: MessageID(id), from: from.map { UserID($0) },
      to: to.map { UserID($0) }, channelID: channelID, ts: Timestamp(milliseconds: ts),
      clientID: clientID,
      ordinal: ordinal, body: body)
  }

  fileprivate mutating func signal() -> Signal? {
    guard let room = optional({ $0.room() }), let kind = text(), let content = counted() else {
      return nil
    }
    return Signal(
      to: room.map { .room($0) } ?? .everyone, kind: kind, content: Array(content))
  }

  /// Nil if the bytes are not valid; otherwise the extras, which are nil if they say nothing.
  private mutating func extras() -> MessageExtras?? {
    guard let replyTo = optional({ $0.integer(Int64.self) }), let mentions = users(),
      let forward = optional({ $0.forward() }), let isEdited = byte()
    else { return nil }
    return .some(
      MessageExtras.make(
        replyTo: replyTo, mentions: mentions, forward: forward, isEdited: isEdited == 1))
  }

  private mutating func forward() -> Forward? {
    guard let message = uuid(), let from = optional({ $0.uuid() }), let room = room(),
      let seq = integer(Int64.self)
    else { return nil }
    return Forward(message: MessageID(message), from: from.map { UserID($0) }, room: room, seq: seq)
  }

  private mutating func users() -> [UserID]? {
    guard let content = counted() else { return nil }
    var inner = WireReader(content)
    var users: [UserID] = []
    while !inner.isAtEnd {
      guard let user = inner.uuid() else { return nil }
      users.append(UserID(user))
    }
    return users
  }

  /// Decodes a body: as `unknown` if only a newer release knows its kind or its type. Nil if the bytes are not valid
  /// for a known kind.
  private static func body(_ code: UInt8, _ reader: inout WireReader) -> EntryBody? {
    let unknown = EntryBody.unknown(code: Int64(code))
    guard let kind = EventCoding.BodyKind(rawValue: code) else {
      return code == 0 ? reader.integer(Int64.self).map { .unknown(code: $0) } : unknown
    }
    switch kind {
    case .message:
      guard let type = reader.text(), let data = reader.text() else { return nil }
      guard let type = MessageType(rawValue: type) else { return unknown }
      // Older nodes send none, and most messages have none.
      if reader.isAtEnd { return .message(MessageContent(type: type, data: data)) }
      guard let extras = reader.extras() else { return nil }
      return .message(MessageContent(type: type, data: data, extras: extras))
    case .edit:
      guard let of = reader.integer(Int64.self), let data = reader.optional({ $0.text() }),
        let mentions = reader.isAtEnd ? [] : reader.users()
      else { return nil }
      return .edit(of: of, data: data, mentions: data == nil ? nil : mentions)
    case .deletion: return reader.integer(Int64.self).map { .deletion(of: $0) }
    case .reaction:
      guard let to = reader.integer(Int64.self), let emoji = reader.text(),
        let isRemoved = reader.byte()
      else { return nil }
      return .reaction(to: to, emoji: emoji, isRemoved: isRemoved == 1)
    case .event:
      guard let kind = reader.text(), let subject = reader.optional({ $0.uuid() }),
        let name = reader.optional({ $0.text() })
      else { return nil }
      return RoomEvent.Kind(rawValue: kind).map {
        .event(RoomEvent($0, subject: subject.map { UserID($0) }, name: name))
      } ?? unknown
    case .erased:
      guard let type = reader.text() else { return nil }
      return MessageType(rawValue: type).map { .erased($0) } ?? unknown
    }
  }
}
