internal import Access
internal import Basics
internal import Chat
internal import Events
internal import Words

/// A parsed frame of relay v1, as the client sent it. Its form was checked, but not what the client may do.
struct RelayFrame {
  enum Action {
    case message(RelayMessage)
    case change(RelayChange)
    case seen(channelID: String, seq: Int64)
    case typing(channelID: String)
    case watch([UserID])
    case subscribe([String])
    case unsubscribe([String])
    case resume(epoch: String?, channels: [(channelID: String, last: Int64)])
    case auth(token: Secret<String>)
  }

  let action: Action
  /// The frame's `client_id` if it is a string. Every error about the frame carries it.
  let clientID: String?
  /// The faults of single channels that the frame names. Its other channels are served.
  let faults: [Failure]

  /// The reason why a frame, or one channel of it, cannot be served. It holds the contents of the error frame.
  struct Failure: Error {
    let code: ErrorCode
    let message: String
    let clientID: String?
    let channelID: String?

    init(
      _ code: ErrorCode, _ message: String? = nil, clientID: String? = nil, channelID: String? = nil
    ) {
      self.code = code
      self.message = message ?? code.meaning
      self.clientID = clientID
      self.channelID = channelID
    }
  }

  /// The types of frames, besides those of messages. Each must have a policy below, or the code does not compile.
  enum Kind: String, CaseIterable {
    case edit, delete, react, seen, typing, watch, subscribe, unsubscribe, resume, auth

    var policy: Policy<SignedIn> {
      switch self {
      case .edit: .room(.writeOwnMessage)
      case .react, .typing: .room(.write)
      case .delete: .room(.manageOrOwnMessage)
      case .seen, .subscribe, .resume: .room(.read)
      case .watch, .unsubscribe, .auth: .caller
      }
    }

    var meaning: String {
      switch self {
      case .edit: "changes the text of a message"
      case .delete: "deletes a message"
      case .react: "adds an emoji to a message, or takes it back"
      case .seen: "tells up to where a room was read"
      case .typing: "tells the others in a room that one is typing"
      case .watch: "hears whether these people are present"
      case .subscribe: "hears rooms from now on"
      case .unsubscribe: "hears rooms no more"
      case .resume: "hears rooms from a seq on"
      case .auth: "renews the token of the connection"
      }
    }
  }

  /// What a frame of each type does and who may send it, as `martlet routes` prints it.
  static let table: [(type: String, policy: Policy<SignedIn>, meaning: String)] =
    MessageType.allCases.map { ($0.rawValue, .room(.write), "sends a message") }
    + Kind.allCases.map { ($0.rawValue, $0.policy, $0.meaning) }

  private static let maximumChannels = 10_000
  private static let maximumWatched = 500
  fileprivate static let maximumClientIDBytes = 64

  /// The number of channels or people that the frame names, by which it is charged; 1 for most.
  var channelCount: Int {
    switch action {
    case .message, .change, .seen, .typing, .auth: 1
    case .watch(let users): users.count
    case .subscribe(let channels), .unsubscribe(let channels): channels.count
    case .resume(_, let channels): channels.count
    }
  }

  /// The channels that the frame names, as the client named them.
  var channels: [String] {
    switch action {
    case .message(let message): [message.channelID]
    case .change(let change): [change.channelID]
    case .seen(let channel, _), .typing(let channel): [channel]
    case .watch, .auth: []
    case .subscribe(let channels), .unsubscribe(let channels): channels
    case .resume(_, let channels): channels.map(\.channelID)
    }
  }

  /// Parses a JSON object as a frame. Throws `Failure` with the stable code of the first fault that makes the whole
  /// frame invalid. Faults of single channels are collected in `faults`.
  init(_ object: JSONObject, maximumContentBytes: Int) throws(Failure) {
    let clientID = object["client_id"]?.string
    self.clientID = clientID
    if let clientID, !(1...Self.maximumClientIDBytes).contains(clientID.utf8.count) {
      // Reported only once. Otherwise the error of each of up to ten thousand channels would repeat the long id.
      throw Failure(
        .invalidFrame, "client_id must have 1 to \(Self.maximumClientIDBytes) bytes.",
        clientID: clientID, channelID: object["channel_id"]?.string)
    }
    var faults: [Failure] = []
    let type = try Self.text(object, "type", clientID)
    if let kind = MessageType(rawValue: type) {
      action = .message(
        try RelayMessage(object, type: kind, maximumContentBytes: maximumContentBytes))
    } else {
      let kind = Kind(rawValue: type)
      switch kind {
      case .edit, .delete, .react:
        action = .change(
          try RelayChange(object, kind, maximumContentBytes: maximumContentBytes))
      case .seen, .typing:
        let members = FrameMembers(object)
        let channel = try members.text("channel_id")
        action =
          kind == .typing
          ? .typing(channelID: channel)
          : .seen(channelID: channel, seq: try members.wholeNumber("seq"))
      case .watch:
        let most = Self.maximumWatched
        guard let users = object["users"]?.userIDs(atMost: most) else {
          throw Failure(
            .invalidFrame, "users must be a list of at most \(most) ids of users.",
            clientID: clientID)
        }
        action = .watch(users)
      case .subscribe: action = .subscribe(try Self.channels(object, clientID, &faults))
      case .unsubscribe: action = .unsubscribe(try Self.channels(object, clientID, &faults))
      case .resume: action = try Self.resume(object, clientID, &faults)
      case .auth: action = .auth(token: Secret(try Self.text(object, "token", clientID)))
      case nil: throw Failure(.unknownType, clientID: clientID)
      }
    }
    self.faults = faults
  }

  /// Returns a member that must be a string without U+0000. Throws `invalid_frame` if it is missing or anything else.
  fileprivate static func text(
    _ object: JSONObject, _ name: String, _ clientID: String?, channelID: String? = nil
  ) throws(Failure) -> String {
    guard case .string(let text)? = object[name], !text.containsNUL else {
      throw Failure(
        .invalidFrame, "\(name) must be a string without U+0000.", clientID: clientID,
        channelID: channelID)
    }
    return text
  }

  private static func channels(
    _ object: JSONObject, _ clientID: String?, _ faults: inout [Failure]
  ) throws(Failure) -> [String] {
    guard case .array(let values)? = object["channels"], values.count <= maximumChannels else {
      throw Failure(
        .invalidFrame, "channels must be a list of at most \(maximumChannels) channel ids.",
        clientID: clientID)
    }
    var channels: [String] = []
    for value in values {
      if case .string(let channel) = value, !channel.containsNUL {
        channels.append(channel)
      } else {
        faults.append(
          Failure(
            .invalidFrame, "A channel id is a string without U+0000.", clientID: clientID,
            channelID: value.string))
      }
    }
    return channels
  }

  private static func resume(
    _ object: JSONObject, _ clientID: String?, _ faults: inout [Failure]
  ) throws(Failure) -> Action {
    var epoch: String?
    switch object["epoch"] {
    case nil, .null: break
    default: epoch = try text(object, "epoch", clientID)
    }
    guard case .object(let members)? = object["channels"], members.members.count <= maximumChannels
    else {
      throw Failure(
        .invalidFrame, "channels must map at most \(maximumChannels) channel ids to seqs.",
        clientID: clientID)
    }
    var channels: [(String, Int64)] = []
    for member in members.members {
      if let last = member.value.wholeNumber, last >= 0, !member.key.containsNUL {
        channels.append((member.key, last))
      } else {
        faults.append(
          Failure(
            .invalidFrame, "A seq is a whole number, 0 or more.", clientID: clientID,
            channelID: member.key))
      }
    }
    return .resume(epoch: epoch, channels: channels)
  }
}

/// A message as it was received. Its form was checked, but not whether its sender may write, nor what it refers to.
struct RelayMessage {
  let channelID: String
  /// The member of a team whom the message is for; nil for everyone in the room.
  let recipient: UserID?
  let content: MessageContent
  let clientID: String?

  init(
    _ object: JSONObject, type: MessageType, maximumContentBytes: Int
  ) throws(RelayFrame.Failure) {
    let members = FrameMembers(object)
    channelID = try members.text("channel_id")
    let recipient = try members.text("to")
    clientID = try members.clientID()
    let forward = try members.forward()
    let data = forward == nil ? try members.data(maximumBytes: maximumContentBytes) : ""
    let extras = MessageExtras.make(
      replyTo: try members.optionalSeq("reply_to"), mentions: try members.mentions() ?? [],
      forward: forward)
    self.recipient = UserID(recipient)
    guard recipient == "*" || self.recipient != nil else {
      throw members.failure(.recipientNotInTeam)
    }
    // A forwarded message has the type of its source.
    content = MessageContent(type: forward == nil ? type : .text, data: data, extras: extras)
  }
}

/// A frame `edit`, `delete` or `react` as it was received. Its form was checked, but not whether its sender may do that.
struct RelayChange {
  let channelID: String
  let body: EntryBody
  let clientID: String?

  init(
    _ object: JSONObject, _ kind: RelayFrame.Kind?, maximumContentBytes: Int
  ) throws(RelayFrame.Failure) {
    let members = FrameMembers(object)
    channelID = try members.text("channel_id")
    clientID = try members.clientID()
    let of = try members.seq("of")
    switch kind {
    case .edit:
      let data = try members.data(maximumBytes: maximumContentBytes)
      body = .edit(of: of, data: data, mentions: try members.mentions())
    case .delete: body = .deletion(of: of)
    default:
      let emoji = try members.text("emoji")
      guard Emoji.isOne(emoji) else {
        throw members.failure(.invalidFrame, "emoji must be one emoji.")
      }
      body = .reaction(to: of, emoji: emoji, isRemoved: try members.optionalBool("remove"))
    }
  }
}

/// A reader of the members of a frame that is about one channel. Every error carries the frame's `client_id` and its
/// `channel_id`, if they are strings. A member that is null counts as absent.
private struct FrameMembers {
  private let object: JSONObject

  init(_ object: JSONObject) { self.object = object }

  func failure(_ code: ErrorCode, _ message: String? = nil) -> RelayFrame.Failure {
    RelayFrame.Failure(
      code, message, clientID: object["client_id"]?.string, channelID: object["channel_id"]?.string)
  }

  private func optional(_ name: String) -> JSON? {
    if case .null? = object[name] { nil } else { object[name] }
  }

  func text(_ name: String) throws(RelayFrame.Failure) -> String {
    guard case .string(let text)? = object[name], !text.containsNUL else {
      throw failure(.invalidFrame, "\(name) must be a string without U+0000.")
    }
    return text
  }

  func clientID() throws(RelayFrame.Failure) -> String? {
    switch optional("client_id") {
    case nil: return nil
    case .string(let id):
      guard (1...RelayFrame.maximumClientIDBytes).contains(id.utf8.count), !id.containsNUL
      else {
        throw failure(.invalidFrame, "client_id must have 1 to 64 bytes.")
      }
      return id
    default: throw failure(.invalidFrame, "client_id must be a string.")
    }
  }

  /// Reads the text of a message.
  func data(maximumBytes: Int) throws(RelayFrame.Failure) -> String {
    guard case .string(let data)? = object["data"], !data.isEmpty else {
      throw failure(.invalidFrame, "data must be a text of at least one byte.")
    }
    guard data.utf8.count <= maximumBytes else { throw failure(.messageTooLarge) }
    guard !data.containsNUL else {
      throw failure(.invalidFrame, "data must not hold U+0000.")
    }
    return data
  }

  func seq(_ name: String) throws(RelayFrame.Failure) -> Int64 {
    guard let seq = object[name]?.wholeNumber, seq > 0 else {
      throw failure(.invalidFrame, "\(name) must be the seq of a message.")
    }
    return seq
  }

  func wholeNumber(_ name: String) throws(RelayFrame.Failure) -> Int64 {
    guard let number = object[name]?.wholeNumber, number >= 0 else {
      throw failure(.invalidFrame, "\(name) must be a whole number, 0 or more.")
    }
    return number
  }

  func optionalSeq(_ name: String) throws(RelayFrame.Failure) -> Int64? {
    optional(name) == nil ? nil : try seq(name)
  }

  /// Reads a boolean; false if it is absent.
  func optionalBool(_ name: String) throws(RelayFrame.Failure) -> Bool {
    switch optional(name) {
    case nil: return false
    case .bool(let flag): return flag
    default: throw failure(.invalidFrame, "\(name) must be true or false.")
    }
  }

  /// Reads the ids of the people whom a message mentions; nil if there are none given.
  func mentions() throws(RelayFrame.Failure) -> [UserID]? {
    guard let value = optional("mentions") else { return nil }
    let most = MessageReferences.maximumMentions
    guard let users = value.userIDs(atMost: most) else {
      throw failure(.invalidFrame, "mentions must be a list of at most \(most) ids of users.")
    }
    return users
  }

  /// Reads the place of the message that is forwarded, which excludes `data`; nil if none is given.
  func forward() throws(RelayFrame.Failure) -> Forward? {
    guard let value = optional("forward_of") else { return nil }
    guard let forward = value.forwardOf else {
      throw failure(.invalidFrame, "forward_of must have a room_id and a seq.")
    }
    guard optional("data") == nil else {
      throw failure(.invalidFrame, "forward_of cannot be given together with data.")
    }
    return forward
  }
}

/// Returns the text parsed as one JSON object, or nil if it is anything else.
func parseObject(_ text: UnsafeRawBufferPointer, maximumDepth: Int) -> JSONObject? {
  // Any parse failure has the same meaning here: it is not one JSON object.
  (try? JSONParser.parse(text.bindMemory(to: UInt8.self), maximumDepth: maximumDepth))?.object
}
