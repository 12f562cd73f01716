internal import Basics
internal import Chat
internal import Events
internal import Live

/// Passes signals on to sockets of relay v1. What cannot be delivered now is dropped: a moment later it is outdated.
extension RoomFeeds {
  func take(_ signal: Signal) {
    if let mute = MuteSignal(signal) {
      rooms[mute.room]?.muted[mute.user] = mute.until
      return
    }
    // While this node does not know who may read what, it tells nobody about others.
    guard intake.isOpen else { return }
    if let seen = SeenSignal(signal) {
      take(seen)
    } else if let read = ReadSignal(signal) {
      take(read)
    } else if let typing = TypingSignal(signal) {
      take(typing)
    } else if let settings = SettingsSignal(signal) {
      for connection in listeners.connections(of: settings.user) {
        send(frames.settings(settings), to: connection)
      }
    }
  }

  private func take(_ seen: SeenSignal) {
    guard let served = servedNow(seen.room), let room = served.feed.room else { return }
    let frame = frames.seen(seen, channelID: room.channelID)
    guard seen.isPrivate else { return hub.publish(frame, to: served.relay, .droppable) }
    for connection in listeners.connections(of: seen.user)
    where served.feed.isSubscribed(connection.number) { send(frame, to: connection) }
  }

  private func take(_ read: ReadSignal) {
    let own = read.origin.flatMap { isLocal($0) ? $0.socket : nil }
    for connection in listeners.connections(of: read.user) where connection.number != own {
      send(frames.read(read), to: connection)
    }
  }

  private func take(_ typing: TypingSignal) {
    guard let served = servedNow(typing.room), let room = served.feed.room,
      heardTyping.allows(typing.room, typing.user, now: reader.backend.now)
    else { return }
    hub.publishDroppable(
      frames.typing(typing, channelID: room.channelID), to: served.relay,
      except: listeners.connections(of: typing.user))
  }

  /// The room, if somebody hears it here and its rules are known.
  private func servedNow(_ id: RoomID) -> ServedRoom? {
    guard intake.mayPass(id), let served = rooms[id], !served.relay.isEmpty else { return nil }
    return served
  }

  /// Sends a frame to one socket of relay v1, if its first frame was sent.
  private func send(_ frame: [UInt8], to connection: Hub.Connection) {
    guard let listener = listeners[connection.number], listener.kind == .relay, listener.isReady
    else { return }
    hub.sendDroppable(frame, to: connection)
  }
}

/// How often one is told that somebody is typing in a room.
struct TypingLimit {
  private struct Key: Hashable {
    let room: RoomID
    let user: UserID
  }

  private var told = BoundedCache<Key, Int64>(capacity: 10_000)

  private static let everyMilliseconds: Int64 = 3000

  /// Whether it may be told now. If so, counts as told. `now` is a time of `Monotonic.milliseconds`.
  mutating func allows(_ room: RoomID, _ user: UserID, now: Int64) -> Bool {
    let key = Key(room: room, user: user)
    if let last = told.value(for: key), now - last < Self.everyMilliseconds { return false }
    told.insert(now, for: key)
    return true
  }
}
