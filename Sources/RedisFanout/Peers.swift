internal import Events

/// The other nodes, as this one receives them: which are alive, and which of their frames count. A value: heartbeats
/// and counters go in, verdicts come out. Times are the caller's milliseconds.
///
/// Somebody with write access to Redis cannot forge a frame, but can replay frames, also of a node that is gone. So
/// each frame counts only once (`CounterWindow`), and only after its node has answered this node's challenge: a
/// number that did not exist when older frames were made. When a silent node is forgotten, together with its
/// counters, a new challenge is made.
struct Peers {
  private struct Peer {
    var challenge: UInt64
    var heardAt: Int64
    /// Whether the node has answered the challenge. Its frames count from then on.
    var isAccepted = false
    /// One window for each followed channel.
    var windows: [Channel: CounterWindow] = [:]
    /// How far the node had counted, as known from its heartbeats, and from its frames in channels that were
    /// followed.
    var announced: [Channel: UInt64] = [:]

    mutating func announce(_ counter: UInt64, in channel: Channel) {
      announced[channel] = max(announced[channel] ?? 0, counter)
    }
  }

  /// What to do with a frame that was opened.
  enum Verdict { case accepted, repeated, notFollowed, notAccepted }

  private struct NodeChannel: Hashable {
    let node: NodeID
    let channel: Channel
  }

  /// The effect of a heartbeat.
  struct HeartbeatResult: Equatable {
    /// The sender has not been answered, so this node should send a heartbeat soon.
    var wantsAnswer = false
    /// The sender's frames count from here on. What it sent before may have been missed.
    var isAccepted = false
  }

  private let node: NodeID
  private let makeChallenge: () -> UInt64
  private(set) var challenge: UInt64
  private var peers: [NodeID: Peer] = [:]
  private var followed: Set<Channel> = [.all]
  /// Windows with gaps.
  private var incomplete: Set<NodeChannel> = []

  /// A node that has been silent for this long is forgotten.
  private static let silenceMilliseconds: Int64 = 30_000

  /// `makeChallenge` makes unpredictable numbers.
  init(node: NodeID, makeChallenge: @escaping () -> UInt64) {
    self.node = node
    self.makeChallenge = makeChallenge
    challenge = makeChallenge()
  }

  /// The number of nodes whose frames count.
  var count: Int { peers.values.count { $0.isAccepted } }

  /// The answers to the challenges of other nodes.
  var answers: [NodeID: UInt64] { peers.mapValues(\.challenge) }

  // MARK: Channels

  /// Frames of the channel arrive from here on.
  mutating func follow(_ channel: Channel) {
    guard followed.insert(channel).inserted else { return }
    for (id, peer) in peers where peer.isAccepted {
      peers[id]?.windows[channel] = CounterWindow(highest: peer.announced[channel] ?? 0)
    }
  }

  mutating func unfollow(_ channel: Channel) {
    guard followed.remove(channel) != nil else { return }
    for id in peers.keys {
      // A frame still counts only once if the channel is followed again.
      if let window = peers[id]?.windows.removeValue(forKey: channel) {
        peers[id]?.announce(window.highest, in: channel)
      }
      incomplete.remove(NodeChannel(node: id, channel: channel))
    }
  }

  /// Nothing is followed but the channel of all.
  mutating func unfollowAll() {
    for channel in followed where channel != .all { unfollow(channel) }
  }

  // MARK: Frames

  /// Decides whether an opened frame from a channel counts.
  mutating func judge(
    _ counter: UInt64, of node: NodeID, in channel: Channel, now: Int64
  ) -> Verdict {
    // In place, because this is on the path of every frame.
    guard peers[node]?.isAccepted == true else { return .notAccepted }
    guard let isNew = peers[node]?.windows[channel]?.take(counter, now: now) else {
      return .notFollowed
    }
    note(node, channel)
    if isNew { peers[node]?.heardAt = now }
    return isNew ? .accepted : .repeated
  }

  private mutating func note(_ node: NodeID, _ channel: Channel) {
    let isWhole = peers[node]?.windows[channel]?.isWhole ?? true
    if isWhole && incomplete.isEmpty { return }
    let nodeChannel = NodeChannel(node: node, channel: channel)
    if isWhole { incomplete.remove(nodeChannel) } else { incomplete.insert(nodeChannel) }
  }

  /// A heartbeat arrived, in the frame with this counter.
  mutating func receive(
    _ heartbeat: Heartbeat, _ counter: UInt64, of id: NodeID, now: Int64
  ) -> HeartbeatResult {
    var result = HeartbeatResult()
    var peer: Peer
    if let known = peers[id] {
      if known.isAccepted, judge(counter, of: id, in: .all, now: now) != .accepted { return result }
      peer = peers[id] ?? known
      result.wantsAnswer = peer.challenge != heartbeat.challenge
    } else {
      guard peers.count < Heartbeat.maximumAnswers else { return result }
      peer = Peer(challenge: heartbeat.challenge, heardAt: now)
      result.wantsAnswer = true
    }
    let answers = heartbeat.answers[node] == challenge
    if !peer.isAccepted, answers {
      peer.isAccepted = true
      result.isAccepted = true
      for channel in followed {
        peer.windows[channel] = CounterWindow(highest: heartbeat.counters[channel] ?? 0)
      }
      peer.windows[.all] = CounterWindow(highest: counter)
    }
    peer.challenge = heartbeat.challenge
    if peer.isAccepted {
      peer.heardAt = now
      for (channel, counter) in heartbeat.counters {
        peer.announce(counter, in: channel)
        peer.windows[channel]?.reach(counter, now: now)
      }
    }
    peers[id] = peer
    for channel in heartbeat.counters.keys { note(id, channel) }
    return result
  }

  // MARK: Time

  /// Whether missing frames may still arrive.
  var hasGaps: Bool { !incomplete.isEmpty }

  /// The channels in which frames have been missing since `moment` or before. They count as lost.
  mutating func lost(missingSince moment: Int64) -> Set<Channel> {
    var lost: Set<Channel> = []
    for nodeChannel in incomplete {
      let isLost = peers[nodeChannel.node]?.windows[nodeChannel.channel]?.expire(
        missingSince: moment)
      if isLost == true { lost.insert(nodeChannel.channel) }
      note(nodeChannel.node, nodeChannel.channel)
    }
    return lost
  }

  /// Forgets nodes that have been silent for long.
  mutating func forgetSilent(now: Int64) {
    let silent = peers.filter { now - $0.value.heardAt > Self.silenceMilliseconds }
    guard !silent.isEmpty else { return }
    for id in silent.keys { peers[id] = nil }
    incomplete = incomplete.filter { peers[$0.node] != nil }
    // Their counters are lost, so only living nodes may be accepted again, by answering a new challenge.
    if silent.values.contains(where: \.isAccepted) { challenge = makeChallenge() }
  }
}
