internal import Access
internal import Basics
internal import Chat
internal import Events
internal import Live

/// A socket, as seen by the rooms of its loop. Called on the loop.
protocol RoomListener: AnyObject {
  var connection: Hub.Connection { get }
  /// The person that the socket acts for. Never nil while the socket is among the listeners.
  var caller: Caller? { get }
  /// Which of a room's two topics the socket is in.
  var kind: DialectKind { get }

  /// Whether the socket is closed and only leaves its rooms.
  var isEnded: Bool { get }

  /// Whether frames that are no answers may be sent to the socket, because its first frame comes before them.
  var isReady: Bool { get }

  /// Receives what a room's feed decided for this socket, in order.
  func receive(_ notification: RoomNotification)
  /// An entry that this socket sent is in the log.
  func committed(_ entry: Entry)
  /// A message that this socket sent is not in the log, for this reason.
  func failed(_ draft: Draft, _ code: ErrorCode)
  /// The log has answered a message that this socket sent. `stale` is the message itself if the sender's rights must
  /// be checked again. Called before `committed` or `failed`.
  func settled(_ roomID: RoomID, stale: Draft?)
  /// The session of the caller's credential has ended.
  func sessionEnded()
  /// The caller's account has these memberships now.
  func affiliationsChanged(_ affiliations: Affiliations)
  /// A room's rule waits for an answer that the caller may give.
  func invited(to room: Room, _ rule: RoomRule)
  /// The gate was closed and is open again. Frames that were received meanwhile can be served.
  func gateOpened()
}
