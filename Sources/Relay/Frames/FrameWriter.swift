internal import Access
internal import Basics
internal import Chat
internal import Events
internal import Presence
internal import Web

/// An encoder for the frames of both protocols. It returns complete WebSocket frames, header included.
///
/// There is one per loop. It reuses its buffer from frame to frame.
struct FrameWriter {
  private var writer = JSONWriter(capacity: 1024)

  /// Returns the frame of the JSON object that `body` writes.
  mutating func frame(_ body: (inout JSONWriter) -> Void) -> [UInt8] {
    writer.removeAll()
    writer.object(body)
    var frame: [UInt8] = []
    frame.reserveCapacity(writer.bytes.count + 10)
    WebSocketFrames.appendText(writer.bytes, to: &frame)
    return frame
  }

  /// Returns the frame of a dialect's answer to one socket. `channelID` gives the `channel_id` of a room.
  mutating func frame(
    _ frame: SocketFrame, channelID: (RoomID) -> String = \.description
  ) -> [UInt8] {
    switch frame {
    case .relay(let answer): relay(answer, channelID)
    case .nano(let reply): nano(reply)
    }
  }

  // MARK: Relay v1

  private mutating func relay(
    _ answer: RelayAnswer, _ channelID: (RoomID) -> String
  ) -> [UInt8] {
    switch answer {
    case .ready(let caller, let epoch, let seconds, let channels, let hasMore):
      ready(
        caller, epoch: epoch, heartbeatSeconds: seconds, channels: channels, hasMore: hasMore,
        channelID)
    case .authed(let caller): authed(caller)
    case .expiring(let seconds): expiring(inSeconds: seconds)
    case .heartbeat(let moved): heartbeat(moved, channelID)
    case .ack(let entry): ack(entry)
    case .position(let word, let room, let seq):
      position(word.rawValue, room, channelID: channelID(room), seq: seq)
    case .gone(let room, let channelID, let code): gone(room, channelID: channelID, code)
    case .presence(let people): presence(people)
    case .invitation(let room, let rule, let isForUser):
      invitation(to: room, rule, isForUser: isForUser)
    case .error(let code, let message, let clientID, let channelID):
      error(code, message, clientID: clientID, channelID: channelID)
    }
  }

  /// The range, in milliseconds, of the random delay before a client that lost its connection reconnects.
  private static let reconnectMilliseconds: [Int64] = [500, 5000]

  mutating func ready(
    _ caller: Caller, epoch: String, heartbeatSeconds: Int64, channels: [RoomHead], hasMore: Bool,
    _ channelID: (RoomID) -> String = \.description
  ) -> [UInt8] {
    frame {
      $0.member("type", "ready")
      $0.member("user_id", caller.userID)
      $0.member("epoch", epoch)
      $0.member("heartbeat_s", heartbeatSeconds)
      $0.key("reconnect_ms")
      $0.array(of: Self.reconnectMilliseconds) { $0.value($1) }
      $0.expiry(of: caller)
      $0.channels(channels, channelID)
      if hasMore { $0.member("more", true) }
    }
  }

  mutating func authed(_ caller: Caller) -> [UInt8] {
    frame {
      $0.member("type", "authed")
      $0.expiry(of: caller)
    }
  }

  mutating func expiring(inSeconds seconds: Int64) -> [UInt8] {
    frame {
      $0.member("type", "expiring")
      $0.member("in_s", seconds)
    }
  }

  mutating func heartbeat(
    _ moved: [RoomHead], _ channelID: (RoomID) -> String = \.description
  ) -> [UInt8] {
    frame {
      $0.member("type", "heartbeat")
      $0.channels(moved, channelID)
    }
  }

  /// Returns the frame of an entry for everyone but the entry's sender. With `isShared` the frame is kept in the
  /// entry, so that it is encoded once for all loops.
  mutating func relayEntry(_ entry: Entry, isShared: Bool) -> [UInt8] {
    if let frame = entry.encodedFrame { return frame }
    let frame = encode(entry)
    if isShared { entry.encodedFrame = frame }
    return frame
  }

  /// Returns the frame of an entry for its sender's sockets: `frame`, which the others get, with the entry's
  /// `client_id` added if it has one. A frame of type `unknown` stays as it is.
  mutating func forSender(_ frame: [UInt8], of entry: Entry) -> [UInt8] {
    guard let clientID = entry.clientID, !entry.body.isUnknown else { return frame }
    return adding(to: frame) { $0.member("client_id", clientID) }
  }

  /// Returns the frame of a message for those who should be notified of it.
  mutating func notifying(_ frame: [UInt8]) -> [UInt8] {
    adding(to: frame) { $0.member("notify", true) }
  }

  /// Returns the frame with one more member.
  private mutating func adding(
    to frame: [UInt8], _ member: (inout JSONWriter) -> Void
  ) -> [UInt8] {
    writer.removeAll()
    writer.object(member)
    // `{...}` and `{"client_id":...}` become `{...,"client_id":...}`.
    let object = frame[WebSocketFrames.headerBytes(of: frame)...].dropLast()
    let member = writer.bytes.dropFirst()
    var joined: [UInt8] = []
    joined.reserveCapacity(object.count + member.count + 11)
    WebSocketFrames.appendTextHeader(count: object.count + 1 + member.count, to: &joined)
    joined.append(contentsOf: object)
    joined.append(UInt8(ascii: ","))
    joined.append(contentsOf: member)
    return joined
  }

  private mutating func encode(_ entry: Entry) -> [UInt8] {
    frame { writer in
      switch entry.body {
      case .message(let content):
        writer.message(content.type, content.data, entry)
        if let extras = content.extras {
          // The frame is the same for everyone, so it does not name the room of a forwarded message.
          writer.members(of: extras, isSourceReadable: false)
          if extras.isEdited { writer.member("status", "edited") }
        }
      case .erased(let type):
        writer.message(type, "", entry)
        writer.member("status", "deleted")
      case .edit(let of, let data, let mentions):
        writer.change("edited", of, entry)
        if let data { writer.member("data", data) }
        if let mentions, !mentions.isEmpty { writer.mentions(mentions) }
      case .deletion(let of): writer.change("deleted", of, entry)
      case .reaction(let to, let emoji, let isRemoved):
        writer.change("reacted", to, entry)
        writer.member("emoji", emoji)
        writer.member("removed", isRemoved)
      case .event(let event):
        writer.place("event", entry)
        writer.member("id", entry.id)
        writer.members(of: event)
        writer.member("from", entry.from)
      case .unknown: writer.place("unknown", entry)
      }
      writer.member("ts", entry.ts)
    }
  }

  mutating func ack(_ entry: Entry) -> [UInt8] {
    frame {
      $0.member("type", "ack")
      $0.member("client_id", entry.clientID ?? "")
      $0.member("channel_id", entry.channelID)
      $0.member("room_id", entry.roomID.value)
      $0.member("id", entry.id)
      $0.member("seq", entry.seq)
      $0.member("ts", entry.ts)
    }
  }

  /// Returns a frame `subscribed`, `unsubscribed`, `resumed`, `reset` or `channel`: a room and an exact seq.
  mutating func position(
    _ type: String, _ room: RoomID, channelID: String, seq: Int64
  ) -> [UInt8] {
    frame {
      $0.member("type", type)
      $0.member("channel_id", channelID)
      $0.member("room_id", room.value)
      $0.member("seq", seq)
    }
  }

  mutating func gone(_ roomID: RoomID, channelID: String, _ code: ErrorCode) -> [UInt8] {
    frame {
      $0.member("type", "gone")
      $0.member("channel_id", channelID)
      $0.member("room_id", roomID.value)
      $0.member("code", code.wire)
    }
  }

  /// Returns the frame of an invitation: a rule of the room waits for an answer that the receiver may give.
  /// `isForUser` tells whether the rule is for the receiver alone or for an entity.
  mutating func invitation(to room: Room, _ rule: RoomRule, isForUser: Bool) -> [UInt8] {
    frame {
      $0.member("type", "invitation")
      $0.member("channel_id", room.channelID)
      $0.member("room_id", room.id.value)
      $0.member("name", room.name)
      $0.member("room_type", room.type.rawValue)
      $0.member("for", isForUser ? "user" : "entity")
      $0.member("permissions", rule.permissions.letters)
    }
  }

  mutating func error(
    _ code: ErrorCode, _ message: String, clientID: String?, channelID: String?
  ) -> [UInt8] {
    frame {
      $0.member("type", "error")
      $0.member("code", code.wire)
      $0.member("message", message)
      if let clientID { $0.member("client_id", clientID) }
      if let channelID { $0.member("channel_id", channelID) }
    }
  }

  // MARK: Signals

  mutating func seen(_ seen: SeenSignal, channelID: String) -> [UInt8] {
    frame {
      $0.member("type", "seen")
      $0.member("channel_id", channelID)
      $0.member("room_id", seen.room.value)
      $0.member("user_id", seen.user)
      $0.member("seq", seen.seq)
      $0.member("ts", seen.ts)
    }
  }

  mutating func typing(_ typing: TypingSignal, channelID: String) -> [UInt8] {
    frame {
      $0.member("type", "typing")
      $0.member("channel_id", channelID)
      $0.member("room_id", typing.room.value)
      $0.member("user_id", typing.user)
    }
  }

  mutating func read(_ read: ReadSignal) -> [UInt8] {
    frame {
      $0.member("type", "read")
      $0.member("room_id", read.room.value)
      $0.member("last_read_seq", read.lastReadSeq)
      $0.member("unread", read.unread)
      $0.member("mentions", read.mentions)
    }
  }

  mutating func settings(_ settings: SettingsSignal) -> [UInt8] {
    // It was written by this server, but perhaps by a newer release.
    let value = (try? JSONParser.parse(settings.settings, maximumDepth: .max)) ?? .null
    return frame {
      $0.member("type", "settings")
      $0.member("settings", value)
    }
  }

  mutating func presence(_ people: [PersonPresence]) -> [UInt8] {
    frame {
      $0.member("type", "presence")
      $0.key("users")
      $0.array(of: people) { writer, person in
        writer.object {
          $0.member("user_id", person.user)
          $0.member("status", person.state.status.word)
          // Who is online is being seen now.
          if person.state.status != .online, let seen = person.state.lastSeenAt {
            $0.member("last_seen_at", seen)
          }
        }
      }
    }
  }

  // MARK: Nano

  /// Returns the frame of a message, or nil if the entry is anything else: the protocol has no frame for that.
  mutating func nanoMessage(_ entry: Entry) -> [UInt8]? {
    guard case .message(let content) = entry.body else { return nil }
    return frame {
      $0.member("type", "message")
      $0.key("data")
      $0.object {
        $0.member("id", entry.id)
        $0.member("room_id", entry.roomID.value)
        $0.member("seq", entry.seq)
        $0.member("content", content.data)
        $0.member("emitter", entry.from)
        $0.member("ts", entry.ts)
      }
    }
  }

  /// Returns the frame `{"type":"query"|"status","data":word}`.
  mutating func nano(_ reply: NanoReply) -> [UInt8] {
    frame {
      $0.member("type", reply.type)
      $0.member("data", reply.word)
    }
  }
}

extension JSONWriter {
  /// Writes `expires_at`: RFC 3339, or null if the credential lives as long as its session.
  fileprivate mutating func expiry(of caller: Caller) {
    if let expiresAt = caller.expiresAt {
      member("expires_at", expiresAt)
    } else {
      nullMember("expires_at")
    }
  }

  /// Writes the members that every frame of an entry begins with.
  fileprivate mutating func place(_ type: String, _ entry: Entry) {
    member("type", type)
    member("channel_id", entry.channelID)
    member("room_id", entry.roomID.value)
    member("seq", entry.seq)
  }

  fileprivate mutating func message(_ type: MessageType, _ data: String, _ entry: Entry) {
    place(type.rawValue, entry)
    member("id", entry.id)
    member("from", entry.from)
    recipient(of: entry)
    member("data", data)
  }

  /// Writes the members that every frame of a change begins with. `of` is the seq of the changed message.
  fileprivate mutating func change(_ type: String, _ of: Int64, _ entry: Entry) {
    place(type, entry)
    member("of", of)
    member("id", entry.id)
    member("from", entry.from)
  }

  fileprivate mutating func channels(_ heads: [RoomHead], _ channelID: (RoomID) -> String) {
    key("channels")
    array(of: heads) { writer, head in
      writer.object {
        $0.member("channel_id", channelID(head.key))
        $0.member("room_id", head.key.value)
        $0.member("seq", head.value)
      }
    }
  }
}
