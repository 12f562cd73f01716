internal import Access
internal import Basics
internal import Chat
internal import Events
internal import Live

/// What a socket's protocol hears of its rooms. Called on the loop.
protocol RoomListener: AnyObject {
  var connection: Hub.Connection { get }
  var caller: Caller? { get }
  /// Which of a room's two topics it is in.
  var dialect: Dialect { get }
  /// The room may be read now, and is not subscribed to: for those who follow all rooms.
  func offered(_ roomID: RoomID)

  // What a `RoomFeed` decided, in order; `RoomFeed.Output` says what each means.
  func admitted(to room: Room, _ purpose: RoomFeed.Purpose, seq: Int64)
  func refused(_ roomID: RoomID, _ purpose: RoomFeed.Purpose, _ code: ErrorCode)
  func revoked(_ roomID: RoomID, channelID: String, _ code: ErrorCode)
  func left(_ roomID: RoomID, seq: Int64, clientID: String?)
  func replay(_ entries: [Entry])
  func resumed(_ room: Room, seq: Int64)
  func joined(_ room: Room)
  func reset(_ room: Room, seq: Int64)
  /// An entry that this socket sent is in the log; with its room where this loop serves it.
  func committed(_ entry: Entry, in room: ServedRoom?)
  /// A message that this socket sent is not in the log, for this reason.
  func failed(_ draft: Draft, _ code: ErrorCode)
  /// The log has answered a message that this socket sent, with the message where it is to be checked
  /// again. Before `committed` or `failed`.
  func settled(_ roomID: RoomID, stale: Draft?)
  /// The session that the caller's credential names has ended.
  func sessionEnded()
  /// What the caller's account belongs to is this now.
  func affiliationsChanged(_ affiliations: Affiliations)
  /// A rule of a room waits for an answer that the caller may give.
  func invited(to room: Room, _ rule: RoomRule)
  /// The gate was closed and is open: what was taken in meanwhile is to be served.
  func gateOpened()
  func tick(now: Int64)
}

/// The two protocols that share everything behind them.
enum Dialect { case relay, nano }
