internal import Access
internal import Basics
internal import Chat
internal import Events

/// A parsed frame of relay v1, as the client sent it. Its form was checked, but not what the client may do.
struct RelayFrame {
  enum Action {
    case message(RelayMessage)
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
    case subscribe, unsubscribe, resume, auth

    var policy: Policy<SignedIn> {
      switch self {
      case .subscribe, .resume: .room(.read)
      case .unsubscribe, .auth: .caller
      }
    }

    var meaning: String {
      switch self {
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
  fileprivate static let maximumClientIDBytes = 64

  /// The number of channels that the frame names; 1 for messages and `auth`.
  var channelCount: Int {
    switch action {
    case .message, .auth: 1
    case .subscribe(let channels), .unsubscribe(let channels): channels.count
    case .resume(_, let channels): channels.count
    }
  }

  /// The channels that the frame names, as the client named them.
  var channels: [String] {
    switch action {
    case .message(let message): [message.channelID]
    case .auth: []
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
      switch Kind(rawValue: type) {
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

/// A message as it was received. Its form was checked, but not whether its sender may write.
struct RelayMessage {
  let channelID: String
  /// The member of a team whom the message is for; nil for everyone in the room.
  let recipient: UserID?
  let type: MessageType
  let data: String
  let clientID: String?

  init(
    _ object: JSONObject, type: MessageType, maximumContentBytes: Int
  ) throws(RelayFrame.Failure) {
    let givenID = object["client_id"]?.string
    let givenChannel = object["channel_id"]?.string
    func failure(_ code: ErrorCode, _ message: String? = nil) -> RelayFrame.Failure {
      RelayFrame.Failure(code, message, clientID: givenID, channelID: givenChannel)
    }
    let channelID = try RelayFrame.text(object, "channel_id", givenID, channelID: givenChannel)
    let recipient = try RelayFrame.text(object, "to", givenID, channelID: givenChannel)
    switch object["client_id"] {
    case nil, .null: clientID = nil
    case .string(let id):
      guard (1...RelayFrame.maximumClientIDBytes).contains(id.utf8.count), !id.containsNUL
      else {
        throw failure(.invalidFrame, "client_id must have 1 to 64 bytes.")
      }
      clientID = id
    default: throw failure(.invalidFrame, "client_id must be a string.")
    }
    guard case .string(let data)? = object["data"], !data.isEmpty else {
      throw failure(.invalidFrame, "data must be a text of at least one byte.")
    }
    guard data.utf8.count <= maximumContentBytes else { throw failure(.messageTooLarge) }
    guard !data.containsNUL else {
      throw failure(.invalidFrame, "data must not hold U+0000.")
    }
    self.recipient = UserID(recipient)
    guard recipient == "*" || self.recipient != nil else { throw failure(.recipientNotInTeam) }
    self.channelID = channelID
    self.type = type
    self.data = data
  }
}

/// Returns the text parsed as one JSON object, or nil if it is anything else.
func parseObject(_ text: UnsafeRawBufferPointer, maximumDepth: Int) -> JSONObject? {
  // Any parse failure has the same meaning here: it is not one JSON object.
  (try? JSONParser.parse(text.bindMemory(to: UInt8.self), maximumDepth: maximumDepth))?.object
}
