internal import Access
internal import Basics
internal import Chat
internal import Events
internal import Presence

/// A frame that relay v1 sends to one socket, other than the entries of its rooms. `FrameWriter` encodes it.
enum RelayAnswer {
  case ready(
    Caller, epoch: String, heartbeatSeconds: Int64, channels: [RoomHead], hasMore: Bool)
  case authed(Caller)
  case expiring(inSeconds: Int64)
  /// Names only the rooms whose head has moved since the client was last told about heads.
  case heartbeat([RoomHead])
  case ack(Entry)
  case position(Position, RoomID, seq: Int64)
  case gone(RoomID, channelID: String, ErrorCode)
  /// Some of the people whom the socket watches.
  case presence([PersonPresence])
  case invitation(to: Room, RoomRule, isForUser: Bool)
  case error(ErrorCode, String, clientID: String?, channelID: String?)

  /// The frames that name a room and an exact seq.
  enum Position: String {
    case subscribed, unsubscribed, resumed, reset, channel
  }
}
