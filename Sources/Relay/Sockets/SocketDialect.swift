internal import Access
internal import Basics
internal import Chat
internal import Events
internal import Web

/// A protocol on a socket, as a value: inputs in, actions out. No socket, clock, lock or database
/// inside. `RelaySocket` carries the actions out.
///
/// What every dialect needs besides stands once, in `RelaySocket`: whose turn a frame is
/// (`FrameIntake`), whose the socket is (`CredentialWatch`), what becomes of a message (`Sender`).
protocol SocketDialect {
  /// Which of a room's two topics carries its frames.
  static var kind: DialectKind { get }

  /// Tells whether a frame ends the connection at any time, also while others wait their turn (nil is a text
  /// that is not one JSON object); nil where none does.
  static var ends: ((JSONObject?) -> Bool)? { get }

  /// Whether something is under way that the next frame depends on: frames wait until it is over.
  var isBusy: Bool { get }

  /// The rooms that the socket hears or has asked for.
  var rooms: Set<RoomID> { get }

  /// So many frames in a row are refused before the socket is closed for flooding.
  static var maximumRefusals: Int { get }

  /// When `tick` is to come at the latest, by `Monotonic.milliseconds`; nil where it need not.
  var tickDue: Int64? { get }

  /// Takes one input; returns what to do, in order.
  mutating func handle(_ input: SocketInput, _ view: some SocketView) -> [SocketAction]
}

/// The two protocols that share everything behind them.
enum DialectKind { case relay, nano }

/// What a dialect may look at while it decides.
protocol SocketView {
  /// `Monotonic.milliseconds`
  var now: Int64 { get }
  /// Who the socket acts for; nil before it has shown a token.
  var caller: Caller? { get }
  /// Names the log that cursors are of.
  var epoch: String { get }
  /// Whether this node may say anything of rooms now (`DeliveryGate`).
  var mayServe: Bool { get }
  /// Whether this loop has read the room.
  func isServed(_ id: RoomID) -> Bool
  /// Whether the socket hears the room or waits for it, as its feed has it.
  func isSubscribed(to id: RoomID) -> Bool
  /// Whether entries of the room may have been published that this socket was not sent yet.
  func isBehind(in id: RoomID) -> Bool
  /// How far the heads of all rooms have moved.
  var headMark: HeadMark { get }
  /// Those of the rooms whose head has moved since, with where it is now, by ascending id. Without those
  /// that the socket is behind in.
  func movedHeads(of rooms: Set<RoomID>, since mark: HeadMark) -> [RoomHead]
}

/// A room and the seq up to which its log is known.
typealias RoomHead = (key: RoomID, value: Int64)

/// What happens to a socket, as its dialect is told.
enum SocketInput {
  case opened
  /// A frame whose turn has come; nil where the text is not one JSON object.
  case frame(JSONObject?)
  /// A frame that is not served: too many of them came (`rate_limited`), or this node does not know
  /// enough (`unavailable`).
  case refused(JSONObject?, ErrorCode)
  case binary
  /// The token is good. Where it renews, the caller is still the old one.
  case tokenAccepted(Caller)
  /// The token is good and another person's.
  case tokenOfAnotherUser
  /// It is not good, or (`unavailable`) that could not be found out.
  case tokenRefused(ErrorCode)
  /// The rooms that the caller may read; `hasMore` where there are more than a socket follows unasked.
  case listed([RoomID], hasMore: Bool)
  case notListed
  /// The rooms that were to be loaded are, or there is a reason why not.
  case loaded(AppError?)
  case room(RoomNotification)
  /// A message that this socket sent is in the log.
  case committed(Entry)
  /// A message that this socket sent is not in the log, for this reason.
  case failed(channelID: String, clientID: String?, ErrorCode)
  /// What the caller may do is not what it was.
  case claimsChanged
  /// A rule of a room waits for an answer that the caller may give.
  case invited(Room, RoomRule)
  /// The credential ends in so many seconds. Comes once.
  case expiring(inSeconds: Int64)
  /// `tickDue` has come.
  case tick

  /// Whether what it brings may be carried out in several turns: frames wait until it is done, and what is
  /// told of rooms meanwhile does not. That one socket names thousands of rooms takes nobody else's turn.
  var mayTakeTurns: Bool {
    switch self {
    case .frame, .loaded: true
    default: false
    }
  }
}

/// What a room's feed decided for one socket; `RoomFeed.Output` says what each means.
enum RoomNotification {
  case admitted(Room, RoomFeed.Purpose, seq: Int64)
  case refused(RoomID, RoomFeed.Purpose, ErrorCode)
  case revoked(RoomID, channelID: String, ErrorCode)
  case left(RoomID, seq: Int64, clientID: String?)
  case replayed([Entry])
  case resumed(Room, seq: Int64)
  case joined(Room)
  case reset(Room, seq: Int64)
  /// The room may be read now, and is not subscribed to.
  case becameReadable(RoomID)
}

/// What a dialect wants done.
enum SocketAction {
  /// A frame of what the caller may know now, after what the topic of room `after` has for the socket so
  /// far. `of` names the room whose content it is, or where the socket stands in: it is not sent any more
  /// where the caller loses the room while nothing may be sent.
  case send(SocketFrame, after: RoomID? = nil, of: RoomID? = nil)
  /// A frame that says nothing of rooms or of others: it leaves also where this node knows too little.
  case answer(SocketFrame, after: RoomID? = nil)
  /// An entry for this socket alone, which its room's topic does not reach.
  case replay(Entry)
  /// Where rooms' logs end now, after what their topics have for the socket so far.
  case sendHeads([RoomHead])
  /// What is sent from here on waits for `uncork`.
  case cork
  /// This frame goes first, then what waited.
  case uncork(SocketFrame)
  /// After everything that was sent.
  case close(CloseCode)
  /// Check the token, then give one of the three inputs of tokens. Frames wait until then.
  case authenticate(Secret<String>)
  /// Give `listed` or `notListed`.
  case list
  /// Read the rooms that this loop does not serve yet, then give `loaded`.
  case load([RoomID])
  /// These rooms are about to be asked for: read them together.
  case prepare([RoomID])
  /// Hear these rooms; each answers by itself.
  case attach(ArraySlice<RoomID>, RoomFeed.Purpose)
  /// Hear these rooms no more; each answers by itself.
  case leave(ArraySlice<RoomID>, clientID: String?)
  /// Hear the room no more; nobody is told.
  case detach(RoomID)
  /// Give the message to the log, if the caller may write there; else give `failed`.
  case write(OutgoingMessage)
  /// The frame cost as much as so many more.
  case charge(frames: Int)
}

/// A frame as a dialect words it.
enum SocketFrame {
  case relay(RelayAnswer)
  case nano(NanoReply)
}

/// A message as its sender wrote it, checked for form but not for access.
struct OutgoingMessage {
  let roomID: RoomID
  /// The channel as the sender named it: what an error about it says.
  let channelID: String
  let content: MessageContent
  let clientID: String?
}
