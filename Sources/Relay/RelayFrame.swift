internal import Access
internal import Basics
internal import Events

/// A frame of relay v1 as the client sent it, checked for form (CONTRACT section 6, seed 001).
enum RelayFrame {
  case message(RelayMessage)
  case subscribe([String])
  case unsubscribe([String])
  case resume(epoch: String?, channels: [(channelID: String, last: Int64)])
  case auth(token: Secret<String>)

  /// A frame that cannot be served: what the error frame says.
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

  /// What a frame of each type does and who may send it, as `martlet routes` prints it.
  static let table: [(type: String, policy: Policy, meaning: String)] =
    MessageType.allCases.map { ($0.rawValue, .room(.write), "sends a message") } + [
      ("subscribe", .room(.read), "hears rooms from now on"),
      ("unsubscribe", .caller, "hears rooms no more"),
      ("resume", .room(.read), "hears rooms from a seq on"),
      ("auth", .caller, "renews the token of the connection"),
    ]

  private static let maximumChannels = 10_000

  /// Reads an object as a frame. Throws `Failure` with the stable code for what is wrong.
  init(_ object: JSONObject, maximumContentBytes: Int) throws(Failure) {
    let clientID = object["client_id"]?.string
    guard case .string(let type)? = object["type"] else {
      throw Failure(.invalidFrame, "A frame needs a type.", clientID: clientID)
    }
    if let kind = MessageType(rawValue: type) {
      self = .message(
        try RelayMessage(object, type: kind, maximumContentBytes: maximumContentBytes))
      return
    }
    switch type {
    case "subscribe": self = .subscribe(try Self.channels(object, clientID))
    case "unsubscribe": self = .unsubscribe(try Self.channels(object, clientID))
    case "resume": self = try Self.resume(object, clientID)
    case "auth":
      guard case .string(let token)? = object["token"] else {
        throw Failure(.invalidFrame, "auth needs a token.", clientID: clientID)
      }
      self = .auth(token: Secret(token))
    default: throw Failure(.unknownType, clientID: clientID)
    }
  }

  private static func channels(
    _ object: JSONObject, _ clientID: String?
  ) throws(Failure) -> [String] {
    guard case .array(let values)? = object["channels"], values.count <= maximumChannels else {
      throw Failure(.invalidFrame, "channels must be a list of channel ids.", clientID: clientID)
    }
    var channels: [String] = []
    for value in values {
      guard case .string(let channel) = value else {
        throw Failure(.invalidFrame, "channels must be a list of channel ids.", clientID: clientID)
      }
      channels.append(channel)
    }
    return channels
  }

  private static func resume(
    _ object: JSONObject, _ clientID: String?
  ) throws(Failure) -> RelayFrame {
    var epoch: String?
    switch object["epoch"] {
    case nil, .null: break
    case .string(let text): epoch = text
    default: throw Failure(.invalidFrame, "epoch must be a string.", clientID: clientID)
    }
    guard case .object(let members)? = object["channels"], members.members.count <= maximumChannels
    else {
      throw Failure(.invalidFrame, "channels must map channel ids to seqs.", clientID: clientID)
    }
    var channels: [(String, Int64)] = []
    for member in members.members {
      guard let last = member.value.wholeNumber, last >= 0 else {
        throw Failure(
          .invalidFrame, "A seq is a whole number, 0 or more.", clientID: clientID,
          channelID: member.key)
      }
      channels.append((member.key, last))
    }
    return .resume(epoch: epoch, channels: channels)
  }
}

/// A message on its way in, checked for form but not for access.
struct RelayMessage {
  let channelID: String
  let type: MessageType
  let data: String
  let clientID: String?

  init(
    _ object: JSONObject, type: MessageType, maximumContentBytes: Int
  ) throws(RelayFrame.Failure) {
    let givenID = object["client_id"]?.string
    func failure(_ code: ErrorCode, _ message: String? = nil) -> RelayFrame.Failure {
      RelayFrame.Failure(code, message, clientID: givenID, channelID: object["channel_id"]?.string)
    }
    guard case .string(let channelID)? = object["channel_id"] else {
      throw failure(.invalidFrame, "channel_id must be a string.")
    }
    guard case .string(let recipient)? = object["to"] else {
      throw failure(.invalidFrame, "to must be * or a user's id.")
    }
    switch object["client_id"] {
    case nil, .null: clientID = nil
    case .string(let id):
      guard (1...64).contains(id.utf8.count), !id.utf8.contains(0) else {
        throw failure(.invalidFrame, "client_id must have 1 to 64 bytes.")
      }
      clientID = id
    default: throw failure(.invalidFrame, "client_id must be a string.")
    }
    guard case .string(let data)? = object["data"], !data.isEmpty else {
      throw failure(.invalidFrame, "data must be a text of at least one byte.")
    }
    guard data.utf8.count <= maximumContentBytes else { throw failure(.messageTooLarge) }
    guard !data.utf8.contains(0) else {
      throw failure(.invalidFrame, "data must not hold U+0000.")
    }
    guard recipient == "*" else { throw failure(.recipientNotInTeam) }
    self.channelID = channelID
    self.type = type
    self.data = data
  }
}
