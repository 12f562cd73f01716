package import Basics
package import Events

/// Tells a room that somebody has read up to a seq.
package struct SeenSignal: Sendable, Equatable {
  package let room: RoomID
  package let user: UserID
  package let seq: Int64
  package let ts: Timestamp
  /// Whether only the person's own sockets are told, because the room is too large.
  package let isPrivate: Bool

  package init(room: RoomID, user: UserID, seq: Int64, ts: Timestamp, isPrivate: Bool) {
    self.room = room
    self.user = user
    self.seq = seq
    self.ts = ts
    self.isPrivate = isPrivate
  }

  package static let kind = "seen"

  package var signal: Signal {
    var writer = WireWriter()
    writer.integer(room.value)
    writer.uuid(user.uuid)
    writer.integer(seq)
    writer.integer(ts.milliseconds)
    writer.byte(isPrivate ? 1 : 0)
    return Signal(to: .room(room), kind: Self.kind, content: writer.bytes)
  }

  /// Nil if the content is not of this kind.
  package init?(_ signal: Signal) {
    var reader = WireReader(signal.content[...])
    guard signal.kind == Self.kind, let room = reader.integer(Int64.self), let user = reader.uuid(),
      let seq = reader.integer(Int64.self), let ts = reader.integer(Int64.self),
      let isPrivate = reader.byte()
    else { return nil }
    self.init(
      room: RoomID(room), user: UserID(user), seq: seq, ts: Timestamp(milliseconds: ts),
      isPrivate: isPrivate == 1)
  }
}

/// Tells a person's own sockets that the person has read up to a seq.
package struct ReadSignal: Sendable, Equatable {
  package let user: UserID
  package let room: RoomID
  package let lastReadSeq: Int64
  package let unread: Int64
  package let mentions: Int64
  /// The socket that asked for it, which need not be told; nil for a request.
  package let origin: Origin?

  init(user: UserID, room: RoomID, state: RoomState, origin: Origin?) {
    self.user = user
    self.room = room
    lastReadSeq = state.lastReadSeq ?? 0
    unread = state.unread
    mentions = state.mentions
    self.origin = origin
  }

  package static let kind = "read"

  package var signal: Signal {
    var writer = WireWriter()
    writer.uuid(user.uuid)
    for number in [room.value, lastReadSeq, unread, mentions] { writer.integer(number) }
    writer.optional(origin) {
      $0.integer($1.node.value)
      $0.integer(Int64($1.loop))
      $0.integer($1.socket)
    }
    return Signal(to: .everyone, kind: Self.kind, content: writer.bytes)
  }

  /// Nil if the content is not of this kind.
  package init?(_ signal: Signal) {
    var reader = WireReader(signal.content[...])
    guard signal.kind == Self.kind, let user = reader.uuid(), let room = reader.integer(Int64.self),
      let lastReadSeq = reader.integer(Int64.self), let unread = reader.integer(Int64.self),
      let mentions = reader.integer(Int64.self),
      let origin = reader.optional({ reader -> Origin? in
        guard let node = reader.integer(UInt64.self), let loop = reader.integer(Int64.self),
          let socket = reader.integer(UInt64.self)
        else { return nil }
        return Origin(node: NodeID(node), loop: Int(loop), socket: socket)
      })
    else { return nil }
    self.user = UserID(user)
    self.room = RoomID(room)
    self.lastReadSeq = lastReadSeq
    self.unread = unread
    self.mentions = mentions
    self.origin = origin
  }
}

/// Tells a room that somebody is typing.
package struct TypingSignal: Sendable, Equatable {
  package let room: RoomID
  package let user: UserID

  package init(room: RoomID, user: UserID) {
    self.room = room
    self.user = user
  }

  package static let kind = "typing"

  package var signal: Signal {
    var writer = WireWriter()
    writer.integer(room.value)
    writer.uuid(user.uuid)
    return Signal(to: .room(room), kind: Self.kind, content: writer.bytes)
  }

  /// Nil if the content is not of this kind.
  package init?(_ signal: Signal) {
    var reader = WireReader(signal.content[...])
    guard signal.kind == Self.kind, let room = reader.integer(Int64.self), let user = reader.uuid()
    else { return nil }
    self.init(room: RoomID(room), user: UserID(user))
  }
}

/// Tells those who serve a room that somebody has muted it or not.
package struct MuteSignal: Sendable, Equatable {
  package let room: RoomID
  package let user: UserID
  /// Until when; nil if the room is not muted.
  package let until: Timestamp?

  init(room: RoomID, user: UserID, until: Timestamp?) {
    self.room = room
    self.user = user
    self.until = until
  }

  package static let kind = "mute"

  package var signal: Signal {
    var writer = WireWriter()
    writer.integer(room.value)
    writer.uuid(user.uuid)
    writer.optional(until) { $0.integer($1.milliseconds) }
    return Signal(to: .room(room), kind: Self.kind, content: writer.bytes)
  }

  /// Nil if the content is not of this kind.
  package init?(_ signal: Signal) {
    var reader = WireReader(signal.content[...])
    guard signal.kind == Self.kind, let room = reader.integer(Int64.self), let user = reader.uuid(),
      let until = reader.optional({ $0.integer(Int64.self) })
    else { return nil }
    self.init(
      room: RoomID(room), user: UserID(user), until: until.map { Timestamp(milliseconds: $0) })
  }
}
