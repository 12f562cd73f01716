internal import Basics
internal import Crypto
internal import Events

/// A frame on a Redis channel: its sender, its sequence number among the sender's frames in this channel, and sealed
/// (encrypted and authenticated) content. The layout, with lengths in bytes:
///
///     version (1) | node (8) | counter (8) | sealed: kind (1), content
///
/// Numbers are big-endian. The head and the name of the channel are the seal's additional authenticated data: a frame
/// whose counter was changed, or that was copied from another channel, does not open. A node ignores versions and
/// kinds that it does not know.
struct FanoutFrame: Equatable {
  enum Content: Equatable {
    /// Events, encoded by `EventCoding`.
    case events([UInt8])
    case heartbeat(Heartbeat)
    /// Content of a kind that this release does not know.
    case unknown
  }

  let node: NodeID
  /// The sequence number: 1, 2, 3 and so on, separately for each node and channel.
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
      // Only a received frame has this content, so it is never encoded.
      case .unknown: [UInt8]()
      }
    return head.bytes
      + key.seal(plain, authenticating: head.bytes + Array(channelName.utf8))
  }

  /// Returns the node that the frame claims as its sender, without verifying the seal. Nil if this is not a frame of a
  /// known version.
  static func claimedNode(_ bytes: [UInt8]) -> NodeID? {
    var reader = WireReader(bytes[...])
    guard reader.byte() == version, let node = reader.integer(UInt64.self) else { return nil }
    return NodeID(node)
  }

  /// Opens a received frame. Nil if it is too short or has another version, was not sealed with this key for this
  /// channel, or is a malformed heartbeat.
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

/// A heartbeat, which every node sends on the channel of all (`Channel.all`) once a second, and sooner to answer a
/// challenge. It shows that the node is alive, and contains its last counter in each channel, from which other nodes
/// detect lost frames.
struct Heartbeat: Equatable {
  /// A random number that other nodes must repeat in `answers` before the sender accepts their frames. The sender
  /// makes it when it starts, and a new one when it has forgotten a node. See `Peers`.
  var challenge: UInt64
  /// The sender's answers to other nodes: the challenge of each node that it knows.
  var answers: [NodeID: UInt64]
  /// The sender's last counter in each channel in which it has sent or lost a frame, except the channel of all, whose
  /// counter is that of the heartbeat's own frame.
  var counters: [Channel: UInt64]

  /// The most answers in one heartbeat, and so the most nodes that are tracked. No deployment has that many.
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

  /// Decodes a heartbeat. Nil if the bytes are malformed. Bytes after the known fields are ignored, because newer
  /// releases may append fields.
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
      // Ignore a channel that only a newer release knows.
      if let channel = Channel(index: index) { counters[channel] = counter }
    }
  }
}
