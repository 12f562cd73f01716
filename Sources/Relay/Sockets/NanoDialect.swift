internal import Access
internal import Basics

/// A reply of the nano protocol. `word` is its text.
enum NanoReply: Equatable {
  case start, tokenNeeded, roomNeeded, unknownCommand
  case ready, connected, notAuthorized, badAuth, badMessage, badJSON, unavailable

  var type: String {
    switch self {
    case .start, .tokenNeeded, .roomNeeded, .unknownCommand: "query"
    default: "status"
    }
  }

  var word: String {
    switch self {
    case .start: "START?"
    case .tokenNeeded: "TOKEN?"
    case .roomNeeded: "SELECTROOM?"
    case .unknownCommand: "COMMAND?"
    case .ready: "READY"
    case .connected: "CONNECTED"
    case .notAuthorized: "NOTAUTHORIZED"
    case .badAuth: "BADAUTH"
    case .badMessage: "BADMESSAGE"
    case .badJSON: "BADJSON"
    case .unavailable: "UNAVAILABLE"
    }
  }
}

/// The nano protocol as a value: frames and outcomes go in, actions come out. It contains no socket, clock or
/// database.
struct NanoDialect {
  enum Action: Equatable {
    case reply(NanoReply)
    /// Close the connection after all replies have been sent.
    case close(NanoClose)
    /// Check the token, then call `tokenAccepted`, `tokenRejected` or `tokenUnchecked`.
    case authenticate(Secret<String>)
    /// Select the room, then call `selected` or `notSelected`.
    case select(RoomID)
    /// Send a message to the selected room.
    case send(content: String)

    static func == (left: Action, right: Action) -> Bool {
      switch (left, right) {
      case (.reply(let left), .reply(let right)): left == right
      case (.close(let left), .close(let right)): left == right
      case (.authenticate(let left), .authenticate(let right)): left.reveal() == right.reveal()
      case (.select(let left), .select(let right)): left == right
      case (.send(let left), .send(let right)): left == right
      default: false
      }
    }
  }

  enum NanoClose: Equatable { case quit, unauthenticated, notJSON }

  private(set) var isReady = false
  private(set) var room: RoomID?
  /// The room that is being selected, until it is known whether the caller may read it.
  var selecting: RoomID?
  private var badTokens = 0
  private let maximumContentBytes: Int
  /// The time by which READY must have been sent, by `Monotonic.milliseconds`.
  let readyDue: Int64

  private static let maximumBadTokens = 3

  /// The types of frames. Each must have a policy below, or the code does not compile.
  enum Kind: String, CaseIterable {
    case token
    case selectRoom = "select_room"
    case message, quit

    var policy: UntypedPolicy {
      switch self {
      case .token, .quit: Policy.anyone.untyped
      case .selectRoom: Policy.room(.read).untyped
      case .message: Policy.room(.write).untyped
      }
    }

    var meaning: String {
      switch self {
      case .token: "shows who is there; again later it renews"
      case .selectRoom: "hears one room"
      case .message: "sends to the selected room"
      case .quit: "closes"
      }
    }
  }

  init(maximumContentBytes: Int, readyDue: Int64) {
    self.maximumContentBytes = maximumContentBytes
    self.readyDue = readyDue
  }

  /// `quit` ends the connection, and so does a text that is not one JSON object.
  static var ends: ((JSONObject?) -> Bool)? {
    { object in object.map { $0["type"]?.string == Kind.quit.rawValue } ?? true }
  }

  /// Handles a text frame. `object` is nil if the text is not one JSON object.
  mutating func receive(_ object: JSONObject?) -> [Action] {
    guard let object else { return [.reply(.badJSON), .close(.notJSON)] }
    let kind = object["type"]?.string.flatMap(Kind.init)
    switch kind {
    case .quit: return [.close(.quit)]
    case .token:
      // A missing token is refused like a bad one.
      return [.authenticate(Secret(object["content"]?.string ?? ""))]
    case .selectRoom, .message, nil: break
    }
    guard isReady else { return [.reply(.tokenNeeded)] }
    switch kind {
    case .selectRoom:
      guard let number = object["room_id"]?.wholeNumberOrNumericString, number > 0 else {
        return [.reply(.notAuthorized)]
      }
      selecting = RoomID(number)
      return [.select(RoomID(number))]
    case .message:
      guard room != nil else { return [.reply(.roomNeeded)] }
      guard let content = object["content"]?.string, !content.isEmpty,
        content.utf8.count <= maximumContentBytes, !content.containsNUL
      else { return [.reply(.badMessage)] }
      return [.send(content: content)]
    case .token, .quit, nil: return [.reply(.unknownCommand)]
    }
  }

  /// Handles a frame like `receive`, but begins nothing: this node can neither read nor store anything now. Frames
  /// that would need that are answered UNAVAILABLE.
  func refuse(_ object: JSONObject?) -> [Action] {
    var unchanged = self
    return unchanged.receive(object).map { action in
      switch action {
      case .authenticate, .select, .send: .reply(.unavailable)
      case .reply, .close: action
      }
    }
  }

  /// Handles a valid token. `isSameUser` is false if the socket already acts for another user.
  mutating func tokenAccepted(isSameUser: Bool) -> [Action] {
    guard !isReady || isSameUser else { return [.reply(.badAuth), .close(.unauthenticated)] }
    isReady = true
    return [.reply(.ready)]
  }

  mutating func tokenRejected() -> [Action] {
    badTokens += 1
    return badTokens >= Self.maximumBadTokens
      ? [.reply(.badAuth), .close(.unauthenticated)] : [.reply(.tokenNeeded)]
  }

  /// Handles a token that could not be checked.
  func tokenUnchecked() -> [Action] { [.reply(.unavailable)] }

  mutating func selected(_ id: RoomID) -> [Action] {
    selecting = nil
    room = id
    return [.reply(.connected)]
  }

  mutating func notSelected(_ code: ErrorCode) -> [Action] {
    selecting = nil
    return [.reply(code == .unavailable ? .unavailable : .notAuthorized)]
  }

  /// Leaves the selected room, because the caller may not read it any more.
  mutating func roomLost() -> [Action] {
    room = nil
    return [.reply(.notAuthorized)]
  }
}
