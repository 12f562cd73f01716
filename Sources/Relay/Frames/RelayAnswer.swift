internal import Access
internal import Basics
internal import Chat
internal import Events

/// What relay v1 sends to one socket, besides the entries of its rooms. `FrameWriter` turns it into bytes.
enum RelayAnswer {
  case ready(
    Caller, epoch: String, heartbeatSeconds: Int64, channels: [RoomHead], hasMore: Bool)
  case authed(Caller)
  case expiring(inSeconds: Int64)
  /// Contains only the rooms whose head has moved since the last heartbeat.
  case heartbeat([RoomHead])
  case ack(Entry)
  case position(Position, RoomID, seq: Int64)
  case gone(RoomID, channelID: String, ErrorCode)
  case invitation(to: Room, RoomRule, isForUser: Bool)
  case error(ErrorCode, String, clientID: String?, channelID: String?)

  /// The frames that name a room and an exact seq.
  enum Position: String {
    case subscribed, unsubscribed, resumed, reset, channel
  }
}
