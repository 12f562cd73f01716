internal import Access
internal import Basics
internal import Chat
internal import Events
internal import Presence
internal import Web

/// A WebSocket protocol as a value: inputs go in, actions come out. It contains no socket, clock, lock or database.
/// `RelaySocket` performs the actions.
///
/// `RelaySocket` also holds what all dialects need: which frame is next (`FrameIntake`), whom the socket acts for
/// (`CredentialWatch`), and what happens to messages (`Sender`).
protocol SocketDialect {
  /// Which of a room's two topics carries this dialect's frames.
  static var kind: DialectKind { get }

  /// A predicate that tells whether a frame ends the connection even while other frames wait; nil if no frame does.
  /// Its argument is nil for a text that is not one JSON object.
  static var ends: ((JSONObject?) -> Bool)? { get }

  /// Whether the dialect waits for something that the next frame depends on. Frames wait until it is over.
  var isBusy: Bool { get }

  /// Whether the socket's first frame was sent, or waits in front of everything that is sent from now on.
  var isReady: Bool { get }

  /// The rooms that the socket hears or has asked for.
  var rooms: Set<RoomID> { get }

  /// The number of refused frames in a row at which the socket is closed for flooding.
  static var maximumRefusals: Int { get }

  /// When the input `tick` is due at the latest, by `Monotonic.milliseconds`; nil if it is not needed.
  var tickDue: Int64? { get }

  /// Handles one input. Returns the actions to perform, in order.
  mutating func handle(_ input: SocketInput, _ view: some SocketView) -> [SocketAction]
}

/// The two protocols. They share everything behind their dialects.
enum DialectKind { case relay, nano }

/// The state that a dialect may look at to decide.
protocol SocketView {
  /// The present time of `Monotonic.milliseconds`.
  var now: Int64 { get }
  /// The person that the socket acts for; nil before it has shown a token.
  var caller: Caller? { get }
  /// The name of the log that cursors refer to.
  var epoch: String { get }
  /// Whether this node may tell anything about rooms now, see `DeliveryGate`.
  var mayServe: Bool { get }
  /// Whether this loop has read the room.
  func isServed(_ id: RoomID) -> Bool
  /// Whether the socket hears the room or is waiting to, according to the room's feed.
  func isSubscribed(to id: RoomID) -> Bool
  /// Whether the room may have published entries that this socket has not been sent.
  func isBehind(in id: RoomID) -> Bool
  /// As frames name a room.
  func channelID(of id: RoomID) -> String
  /// The team of the caller whose channel this room is.
  func team(ofChannel id: RoomID) -> TeamID?
  /// The room that a client means by the name of a team; nil if that is not known without asking the database.
  func room(named name: ChannelName) -> RoomID?
  /// The present point on the loop's time line of moved heads.
  var headMark: HeadMark { get }
  /// Those of the rooms whose heads have moved since the mark, each with its present head, by ascending id. Rooms in
  /// which the socket is behind are left out.
  func movedHeads(of rooms: Set<RoomID>, since mark: HeadMark) -> [RoomHead]
}

/// A room and the seq of its last entry.
typealias RoomHead = (key: RoomID, value: Int64)

/// A room as clients name it by a team: its channel, or the dialog with one of its members.
struct ChannelName: Hashable, Sendable {
  let team: TeamID
  /// Nil means the channel.
  let member: UserID?
}

/// The room that a name means, or why there is none for this caller.
enum Resolution: Sendable {
  case room(RoomID)
  case refused(ErrorCode)
}

/// An input of a dialect: something that happens to its socket.
enum SocketInput {
  case opened
  /// A frame to serve; nil if the text is not one JSON object.
  case frame(JSONObject?)
  /// A frame that must be refused, because the client sent too many (`rate_limited`) or because this node does not
  /// know at present who may do what (`unavailable`).
  case refused(JSONObject?, ErrorCode)
  case binary
  /// The token is valid. If it renews an earlier one, the view's caller is still the old one.
  case tokenAccepted(Caller)
  /// The token is valid but belongs to another user.
  case tokenOfAnotherUser
  /// The token is not valid, or with `unavailable` could not be checked.
  case tokenRefused(ErrorCode)
  /// The rooms that the caller may read. `hasMore` means that there are others, which the socket hears only if the
  /// client asks for them.
  case listed([RoomID], hasMore: Bool)
  case notListed
  /// The entry that `examine` named, with everything that it refers to or the reason why it is refused.
  case examined(OutgoingEntry)
  /// The rooms that `resolve` asked for, or why there are none.
  case resolved([ChannelName: Resolution])
  /// The rooms that `load` named have been read, or could not be read because of this error.
  case loaded(AppError?)
  case room(RoomNotification)
  /// A message that this socket sent is in the log.
  case committed(Entry)
  /// Something that this socket asked for was refused, for this reason: a message is not in the log, a mark was not
  /// moved. Nil if it was not about a channel.
  case failed(channelID: String?, clientID: String?, ErrorCode)
  /// Those of the people whom the socket watches from now on whom the caller knows, as they are at present.
  case watching([PersonPresence])
  /// The caller's rights may have changed.
  case claimsChanged
  /// A room's rule waits for an answer that the caller may give.
  case invited(Room, RoomRule)
  /// The credential expires in this many seconds. Given once for each credential.
  case expiring(inSeconds: Int64)
  /// `tickDue` has come.
  case tick

  /// Whether the actions of this input may be spread over several turns, so that a socket that names thousands of
  /// rooms does not block the others. Until they are done, the socket's frames wait; notifications of rooms do not.
  var mayTakeTurns: Bool {
    switch self {
    case .frame, .loaded, .resolved, .examined: true
    default: false
    }
  }
}

/// The decision of a room's feed about one socket. `RoomFeed.Output` explains each case.
enum RoomNotification {
  case admitted(Room, RoomFeed.Purpose, seq: Int64)
  case refused(RoomID, RoomFeed.Purpose, ErrorCode)
  case revoked(RoomID, channelID: String, ErrorCode)
  case left(RoomID, seq: Int64, clientID: String?)
  case replayed([Entry])
  case resumed(Room, seq: Int64)
  case joined(Room)
  case reset(Room, seq: Int64)
  /// The caller may read the room now, and the socket is not subscribed to it.
  case becameReadable(RoomID)
}

/// An action that a dialect wants to be performed.
enum SocketAction {
  /// Send a frame that may reveal something about rooms or other people, so it waits while delivery is stopped. It
  /// follows everything that the topic of room `after` holds for the socket. `of` names the room whose content the
  /// frame carries, or the room that it says the socket is in: the frame is dropped if the caller loses that room
  /// while delivery is stopped.
  case send(SocketFrame, after: RoomID? = nil, of: RoomID? = nil)
  /// Send a frame that tells nothing about rooms or other people. It is sent even while delivery is stopped.
  case answer(SocketFrame, after: RoomID? = nil)
  /// Send an entry to this socket alone, because its room's topic does not reach it.
  case replay(Entry)
  /// Send the heads of rooms, after everything that their topics hold for the socket.
  case sendHeads([RoomHead])
  /// Hold back what is sent from here on, until `uncork`.
  case cork
  /// Send this frame first, then what was held back.
  case uncork(SocketFrame)
  /// Close the socket after the frames that were sent to it alone. What the topics of its rooms still hold is not
  /// sent. If access was revoked, or while delivery is stopped or the socket is corked, frames that still wait are
  /// dropped.
  case close(CloseCode)
  /// Check the token, then give one of the three token inputs. Frames wait until then.
  case authenticate(Secret<String>)
  /// List the caller's rooms, then give `listed` or `notListed`.
  case list
  /// Read those of the rooms that this loop does not serve yet, then give `loaded`.
  case load([RoomID])
  /// Read those of these rooms that this loop does not serve yet, all together, because they are about to be asked
  /// for.
  case prepare([RoomID])
  /// Subscribe to these rooms. The answer for each comes as a notification of its own.
  case attach(ArraySlice<RoomID>, RoomFeed.Purpose)
  /// Unsubscribe from these rooms. The answer for each comes as a notification of its own.
  case leave(ArraySlice<RoomID>, clientID: String?)
  /// Leave the room without an answer.
  case detach(RoomID)
  /// Find the rooms that these names mean, making dialogs that do not exist yet, then give `resolved`.
  case resolve([ChannelName])
  /// Check what the entry refers to outside of its room, then give `examined`. Frames wait until then.
  case examine(OutgoingEntry)
  /// Submit the entry to the log if the caller may write it; otherwise give `failed`.
  case write(OutgoingEntry)
  /// Move the caller's mark in the room to this seq; give `failed` if that is not possible.
  case markRead(RoomID, seq: Int64, channelID: String, clientID: String?)
  /// Tell the others in the room that the caller is typing; give `failed` if the caller may not write there.
  case typing(RoomID, channelID: String, clientID: String?)
  /// Watch these people in place of those that the socket watched, then give `watching` or `failed`. Frames wait until
  /// then.
  case watch([UserID], clientID: String?)
  /// Charge the rate limit for this many additional frames.
  case charge(frames: Int)
}

/// A frame of one of the dialects, before it is encoded.
enum SocketFrame {
  case relay(RelayAnswer)
  case nano(NanoReply)
}

/// A message, edit, deletion or reaction as its sender asked for it. Its form was checked, but not whether its sender may
/// do that.
struct OutgoingEntry {
  let roomID: RoomID
  /// The channel as the sender named it, for errors about the entry.
  let channelID: String
  var body: EntryBody
  let clientID: String?
  /// The one person whom a message in a dialog of a team is for, if its sender named that person.
  var recipient: UserID?
  /// Why the entry is refused, unless it is a retry of one that is in the log.
  var refusal: ErrorCode?
}
