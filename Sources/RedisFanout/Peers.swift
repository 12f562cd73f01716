internal import Events

/// The table of the other nodes, with replay protection: which nodes are alive, and which of their frames are
/// accepted. A value: heartbeats and counters go in, verdicts come out. The caller provides the clock, in
/// milliseconds.
///
/// An attacker with write access to Redis cannot forge a frame, but can replay recorded frames, even those of a node
/// that has stopped. So each frame is accepted only once (`CounterWindow`), and only after its node has answered this
/// node's challenge: a random number that did not exist when older frames were made. When a silent node is forgotten,
/// its counters are lost, so a new challenge is made.
struct Peers {
  private struct Peer {
    var challenge: UInt64
    var heardAt: Int64
    /// Whether the node has answered this node's challenge. Its frames are accepted from then on.
    var isAccepted = false
    /// One replay window for each followed channel; empty until the node is accepted.
    var windows: [Channel: CounterWindow] = [:]
    /// The node's highest known counter in each channel: from its heartbeats, and from its frames in channels that
    /// this node no longer follows.
    var announced: [Channel: UInt64] = [:]

    mutating func announce(_ counter: UInt64, in channel: Channel) {
      announced[channel] = max(announced[channel] ?? 0, counter)
    }
  }

  /// What to do with a frame whose seal was verified.
  enum Verdict { case accepted, repeated, notFollowed, notAccepted }

  private struct NodeChannel: Hashable {
    let node: NodeID
    let channel: Channel
  }

  /// The effect of a received heartbeat.
  struct HeartbeatResult: Equatable {
    /// The sender has a challenge that this node has not answered yet, so this node should send a heartbeat soon.
    var wantsAnswer = false
    /// The sender has just been accepted: its frames count from here on. Its earlier frames may have been missed.
    var isAccepted = false
  }

  private let node: NodeID
  private let makeChallenge: () -> UInt64
  private(set) var challenge: UInt64
  private var peers: [NodeID: Peer] = [:]
  private var followed: Set<Channel> = [.all]
  /// The nodes and channels whose window has gaps.
  private var incomplete: Set<NodeChannel> = []

  /// How long a node may be silent before it is forgotten.
  private static let silenceMilliseconds: Int64 = 30_000

  /// `makeChallenge` must return unpredictable numbers.
  init(node: NodeID, makeChallenge: @escaping () -> UInt64) {
    self.node = node
    self.makeChallenge = makeChallenge
    challenge = makeChallenge()
  }

  /// The number of nodes whose frames are accepted.
  var count: Int { peers.values.count { $0.isAccepted } }

  /// The answers for this node's next heartbeat: the challenges of all known nodes.
  var answers: [NodeID: UInt64] { peers.mapValues(\.challenge) }

  // MARK: Channels

  /// Notes that frames of the channel arrive from here on. Frames up to the last counter that the sender announced do
  /// not count as missing.
  mutating func follow(_ channel: Channel) {
    guard followed.insert(channel).inserted else { return }
    for (id, peer) in peers where peer.isAccepted {
      peers[id]?.windows[channel] = CounterWindow(highest: peer.announced[channel] ?? 0)
    }
  }

  mutating func unfollow(_ channel: Channel) {
    guard followed.remove(channel) != nil else { return }
    for id in peers.keys {
      // Keep the highest counter, so that no frame is accepted again if the channel is followed again.
      if let window = peers[id]?.windows.removeValue(forKey: channel) {
        peers[id]?.announce(window.highest, in: channel)
      }
      incomplete.remove(NodeChannel(node: id, channel: channel))
    }
  }

  /// Stops following every channel except the channel of all.
  mutating func unfollowAll() {
    for channel in followed where channel != .all { unfollow(channel) }
  }

  // MARK: Frames

  /// Decides whether a frame from a channel is accepted, after its seal was verified.
  mutating func judge(
    _ counter: UInt64, of node: NodeID, in channel: Channel, now: Int64
  ) -> Verdict {
    // Change the window in place rather than copying the peer, because this runs for every frame.
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

  /// Handles a heartbeat, which arrived in the frame with this counter.
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

  /// Whether frames are missing that may still arrive.
  var hasGaps: Bool { !incomplete.isEmpty }

  /// Gives up frames that have been missing since `moment` or before. Returns their channels.
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

  /// Forgets nodes that have been silent for longer than `silenceMilliseconds`.
  mutating func forgetSilent(now: Int64) {
    let silent = peers.filter { now - $0.value.heardAt > Self.silenceMilliseconds }
    guard !silent.isEmpty else { return }
    for id in silent.keys { peers[id] = nil }
    incomplete = incomplete.filter { peers[$0.node] != nil }
    // Their counters are lost, so their recorded frames could be replayed. With a new challenge only nodes that are
    // alive can be accepted again.
    if silent.values.contains(where: \.isAccepted) { challenge = makeChallenge() }
  }
}
