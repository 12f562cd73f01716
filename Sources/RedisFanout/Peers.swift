internal import Events

/// The other nodes, as this one hears them: which of them live, and which of their frames count. A value: heartbeats
/// and counters in, verdicts out; times are milliseconds of whoever calls.
///
/// Whoever can write to Redis cannot make a frame, but can say again what a node once said, also one that is gone.
/// So a node's frames count once each (`CounterWindow`), and only after the node has answered this node's
/// challenge: a number that was not there when older frames were made. Where a silent node is forgotten, with
/// what had come of it, the challenge becomes another.
struct Peers {
  private struct Peer {
    var challenge: UInt64
    var heardAt: Int64
    /// Whether it has answered; its frames count from there on.
    var isAccepted = false
    /// Of the channels that are followed.
    var windows: [Channel: CounterWindow] = [:]
    /// How far it had counted, as far as is known: by its heartbeats, and by its frames in channels that were followed.
    var announced: [Channel: UInt64] = [:]

    mutating func announce(_ counter: UInt64, in channel: Channel) {
      announced[channel] = max(announced[channel] ?? 0, counter)
    }
  }

  /// What becomes of a frame that was opened.
  enum Verdict { case accepted, repeated, notFollowed, notAccepted }

  private struct NodeChannel: Hashable {
    let node: NodeID
    let channel: Channel
  }

  /// What a heartbeat brought.
  struct HeartbeatResult: Equatable {
    /// The sender has not been answered: a heartbeat of ours should go out soon.
    var wantsAnswer = false
    /// Its frames count from here on; what it sent before may have been missed.
    var isAccepted = false
  }

  private let node: NodeID
  private let makeChallenge: () -> UInt64
  private(set) var challenge: UInt64
  private var peers: [NodeID: Peer] = [:]
  private var followed: Set<Channel> = [.all]
  /// Windows in which something is missing.
  private var incomplete: Set<NodeChannel> = []

  /// A node that was silent for so long is forgotten.
  private static let silenceMilliseconds: Int64 = 30_000

  /// `makeChallenge` makes numbers that nobody can guess.
  init(node: NodeID, makeChallenge: @escaping () -> UInt64) {
    self.node = node
    self.makeChallenge = makeChallenge
    challenge = makeChallenge()
  }

  /// Nodes whose frames count.
  var count: Int { peers.values.count { $0.isAccepted } }

  /// What those are to be told who asked.
  var answers: [NodeID: UInt64] { peers.mapValues(\.challenge) }

  // MARK: Channels

  /// From here on frames of the channel come.
  mutating func follow(_ channel: Channel) {
    guard followed.insert(channel).inserted else { return }
    for (id, peer) in peers where peer.isAccepted {
      peers[id]?.windows[channel] = CounterWindow(highest: peer.announced[channel] ?? 0)
    }
  }

  mutating func unfollow(_ channel: Channel) {
    guard followed.remove(channel) != nil else { return }
    for id in peers.keys {
      // What came counts once, also where the channel is followed again.
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

  /// Whether a frame counts that came through a channel and was opened.
  mutating func judge(
    _ counter: UInt64, of node: NodeID, in channel: Channel, now: Int64
  ) -> Verdict {
    // In place: this is on the path of every frame.
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

  /// A heartbeat came, as the frame of this counter.
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

  /// Whether something is missing that may still come.
  var hasGaps: Bool { !incomplete.isEmpty }

  /// Channels in which frames have been missing since `moment` or before: they count as lost.
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
    // What was kept of their counters is gone: only a node that lives can answer the new one.
    if silent.values.contains(where: \.isAccepted) { challenge = makeChallenge() }
  }
}
