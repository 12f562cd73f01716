internal import Access
internal import Basics
internal import Chat
internal import Events
internal import Live

/// A socket as the rooms of its loop see it. Called on the loop.
protocol RoomListener: AnyObject {
  var connection: Hub.Connection { get }
  /// Who the socket acts for; never nil while it is among the listeners.
  var caller: Caller? { get }
  /// Which of a room's two topics it is in.
  var kind: DialectKind { get }

  /// It is closed, and leaves its rooms.
  var isEnded: Bool { get }

  /// What a room's feed decided for this socket, in order.
  func receive(_ notification: RoomNotification)
  /// An entry that this socket sent is in the log.
  func committed(_ entry: Entry)
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
}
