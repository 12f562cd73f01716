internal import Basics
internal import Crypto
internal import Events

/// A frame on a channel: its sender, its number among the sender's frames in this channel, and sealed content.
///
///     version (1) | node (8) | counter (8) | sealed: kind (1), content
///
/// Numbers are big-endian. Everything before the seal, and the name of the channel, is authenticated by it: a frame
/// with another counter or from another channel does not open. A node ignores versions and kinds that it does not
/// know.
struct FanoutFrame: Equatable {
  enum Content: Equatable {
    /// In the form of `EventCoding`.
    case events([UInt8])
    case heartbeat(Heartbeat)
    /// From a newer release.
    case unknown
  }

  let node: NodeID
  /// 1, 2, 3 and so on, for each channel of a node.
  let counter: UInt64
  let content: Content

  private enum Kind: UInt8 {
    case events = 1
    case heartbeat
  }

  private static let version: UInt8 = 1
  private static let headBytes = 17

  func bytes(in channelName: String, _ key: SealingKey) -> [UInt8] {
    var head = WireWriter()
    head.byte(Self.version)
    head.integer(node.value)
    head.integer(counter)
    let plain =
      switch content {
      case .events(let bytes): [Kind.events.rawValue] + bytes
      case .heartbeat(let heartbeat): [Kind.heartbeat.rawValue] + heartbeat.bytes
      // Nobody makes it.
      case .unknown: [UInt8]()
      }
    return head.bytes
      + key.seal(plain, authenticating: head.bytes + Array(channelName.utf8))
  }

  /// The node that claims to have sent it, before the seal is verified. Nil if this is not a frame of a known
  /// version.
  static func claimedNode(_ bytes: [UInt8]) -> NodeID? {
    var reader = WireReader(bytes[...])
    guard reader.byte() == version, let node = reader.integer(UInt64.self) else { return nil }
    return NodeID(node)
  }

  /// Nil if it has another version, was not sealed with this key for this channel, or is a heartbeat with malformed
  /// content.
  init?(_ bytes: [UInt8], in channelName: String, _ key: SealingKey) {
    var reader = WireReader(bytes[...])
    guard reader.byte() == Self.version, let node = reader.integer(UInt64.self),
      let counter = reader.integer(UInt64.self),
      let plain = key.open(
        bytes[Self.headBytes...],
        authenticating: bytes.prefix(Self.headBytes) + Array(channelName.utf8)),
      let first = plain.first
    else { return nil }
    self.node = NodeID(node)
    self.counter = counter
    switch Kind(rawValue: first) {
    case .events: content = .events(Array(plain.dropFirst()))
    case .heartbeat:
      guard let heartbeat = Heartbeat(plain.dropFirst()) else { return nil }
      content = .heartbeat(heartbeat)
    case nil: content = .unknown
    }
  }

  init(node: NodeID, counter: UInt64, content: Content) {
    self.node = node
    self.counter = counter
    self.content = content
  }
}

/// What every node sends on the channel of all once a second: that it is alive, and how far it has counted in each
/// channel, so that others detect what they missed.
struct Heartbeat: Equatable {
  /// A number that an answer must contain. Made when this node starts, and again when it has forgotten a node. See
  /// `Peers`.
  var challenge: UInt64
  /// The answers to the challenges of other nodes.
  var answers: [NodeID: UInt64]
  /// The channels in which something was sent.
  var counters: [Channel: UInt64]

  /// The most answers in one heartbeat; nobody has so many nodes.
  static let maximumAnswers = 1024

  var bytes: [UInt8] {
    var writer = WireWriter()
    writer.integer(challenge)
    writer.integer(UInt16(clamping: answers.count))
    for (node, answer) in answers.sorted(by: { $0.key.value < $1.key.value }) {
      writer.integer(node.value)
      writer.integer(answer)
    }
    writer.integer(UInt16(clamping: counters.count))
    for (channel, counter) in counters.sorted(by: { $0.key < $1.key }) {
      writer.integer(channel.index)
      writer.integer(counter)
    }
    return writer.bytes
  }

  init(challenge: UInt64, answers: [NodeID: UInt64], counters: [Channel: UInt64]) {
    self.challenge = challenge
    self.answers = answers
    self.counters = counters
  }

  /// Nil if the bytes are malformed. Additions of newer releases come at the end.
  init?(_ bytes: ArraySlice<UInt8>) {
    var reader = WireReader(bytes)
    guard let challenge = reader.integer(UInt64.self), let answerCount = reader.integer(UInt16.self)
    else { return nil }
    self.challenge = challenge
    answers = [:]
    counters = [:]
    for _ in 0..<answerCount {
      guard let node = reader.integer(UInt64.self), let answer = reader.integer(UInt64.self) else {
        return nil
      }
      answers[NodeID(node)] = answer
    }
    guard let counterCount = reader.integer(UInt16.self) else { return nil }
    for _ in 0..<counterCount {
      guard let index = reader.integer(UInt16.self), let counter = reader.integer(UInt64.self)
      else {
        return nil
      }
      // A channel that only a newer release knows is ignored.
      if let channel = Channel(index: index) { counters[channel] = counter }
    }
  }
}
