internal import Basics
internal import Crypto
internal import EventLoop
internal import Events
internal import TLS

/// The part of a `RedisFanout` that runs on the loop. It owns both connections and this node's counters, and handles
/// the frames of other nodes. Used on the loop only.
final class RedisLink {
  /// A change of the connection that subscribes: it was opened, it has ended, or only the followed rooms have changed.
  enum Subscription { case began, ended, unchanged }

  /// Receives the events of other nodes, and `Event.missed`. Set once, before `open`.
  var receive: @Sendable ([Event]) -> Void = { _ in }
  /// Told of a change. Returns the shards to subscribe to and those to unsubscribe from now.
  var interest: (Subscription) -> (subscribe: [Shard], unsubscribe: [Shard]) = { _ in ([], []) }
  /// Told which requests Redis has confirmed, by shard. Returns the shards in which events may have been missed.
  var confirmed: ([Shard]) -> Set<Shard> = { _ in [] }

  private let configuration: RedisFanout.Configuration
  private let tls: TLSClient?
  private let loop: Loop
  private let log: Log
  private let metrics: RedisFanoutMetrics
  private var peers: Peers
  private var epoch: String
  private var channels: [String: Channel] = [:]
  private var names: [Channel: String] = [:]
  /// The last counter of this node in each channel. Frames that could not be sent are counted too, except signals.
  private var counters: [Channel: UInt64] = [:]
  private var publisher: RedisConnector?
  private var subscriber: RedisConnector?
  private var timer: LoopTimer?
  private var isLookingForGaps = false
  private var isHeartbeatDue = false
  private var forgedLoggedAt: Int64?

  private static let heartbeatMilliseconds = 1000
  /// How long an answer to another node's heartbeat is delayed, so that one heartbeat answers several nodes.
  private static let answerMilliseconds = 20
  /// How long a frame may be missing after a later frame has arrived, before it counts as lost.
  private static let gapMilliseconds = 50
  /// The most bytes that may wait for Redis. Beyond this limit frames are dropped. The limit for signals is lower, so
  /// that they are dropped first.
  private static let maximumQueuedBytes = 8 * 1024 * 1024
  private static let maximumQueuedBytesForSignals = 512 * 1024
  /// The approximate size at which a frame is complete. The events of a larger commit are divided into several frames.
  private static let frameBytes = 128 * 1024
  private static let logMilliseconds: Int64 = 60_000
  /// How long `finish` waits at most until Redis has taken the output.
  private static let finishMilliseconds = 500
  private static let finishPauseMilliseconds = 10

  /// The size that no frame of a node exceeds.
  private var maximumFrameBytes: Int {
    2 * (Self.frameBytes + configuration.maximumEventBytes + Self.frameOverheadBytes)
  }
  private static let frameOverheadBytes = 64 * 1024

  init(
    _ configuration: RedisFanout.Configuration, tls: TLSClient?, loop: Loop, log: Log,
    _ metrics: RedisFanoutMetrics
  ) {
    self.configuration = configuration
    self.tls = tls
    self.loop = loop
    self.log = log
    self.metrics = metrics
    epoch = configuration.epoch
    peers = Self.peers(of: configuration.node)
    nameChannels()
  }

  private static func peers(of node: NodeID) -> Peers {
    Peers(node: node) {
      var random = SystemRandomNumberGenerator()
      return random.next()
    }
  }

  private func nameChannels() {
    channels = [:]
    for index in 0...Channel.all.index {
      guard let channel = Channel(index: index) else { continue }
      let name = channel.name(epoch: epoch)
      channels[name] = channel
      names[channel] = name
    }
  }

  // MARK: Opening and closing

  func open() {
    func connect(_ role: StaticString) -> RedisConnector {
      RedisConnector(
        role, configuration.url, tls: tls, maximumReplyBytes: maximumFrameBytes, loop: loop,
        log: log)
    }
    // Weak, here and below: connections and timers may briefly outlive this object.
    let publisher = connect("publisher")
    publisher.opened = { [weak self] in self?.publisherOpened() }
    publisher.closed = { [weak self] in self?.noteConnected() }
    self.publisher = publisher
    let subscriber = connect("subscriber")
    subscriber.opened = { [weak self] in self?.subscribe(.began) }
    subscriber.closed = { [weak self] in
      guard let self else { return }
      _ = interest(.ended)
      noteConnected()
    }
    subscriber.replied = { [weak self] in self?.take($0) }
    self.subscriber = subscriber
    publisher.open()
    subscriber.open()
    timer = loop.schedule(every: Self.heartbeatMilliseconds) { [weak self] in self?.tick() }
    loop.onTurnEnd { [weak self] in
      self?.publisher?.flush()
      self?.subscriber?.flush()
    }
  }

  /// Sends what was published, followed by a heartbeat, for at most `finishMilliseconds`. Then closes both connections
  /// and calls `done`.
  func finish(_ done: @escaping () -> Void) {
    sendHeartbeat()
    publisher?.flush()
    finish(triesLeft: Self.finishMilliseconds / Self.finishPauseMilliseconds, done)
  }

  private func finish(triesLeft: Int, _ done: @escaping () -> Void) {
    guard triesLeft > 0, let publisher, publisher.isOpen, publisher.queuedBytes > 0 else {
      close()
      done()
      return
    }
    // The closure retains this object until then.
    loop.schedule(after: Self.finishPauseMilliseconds) {
      self.finish(triesLeft: triesLeft - 1, done)
    }
  }

  private func close() {
    publisher?.close()
    subscriber?.close()
    (publisher, subscriber) = (nil, nil)
    timer?.cancel()
    timer = nil
    _ = interest(.ended)
    noteConnected()
  }

  private func noteConnected() {
    metrics.connected.set(publisher?.isOpen == true && subscriber?.isOpen == true ? 1 : 0)
  }

  private func tick() {
    peers.forgetSilent(now: Monotonic.milliseconds)
    metrics.peers.set(peers.count)
    subscriber?.ask(["PING"])
    sendHeartbeat()
    publisher?.tick()
    subscriber?.tick()
  }

  func epochChanged(to epoch: String) {
    guard epoch != self.epoch else { return }
    self.epoch = epoch
    nameChannels()
    // The subscriber reconnects and subscribes to the channels with the new names, and all nodes have to be accepted
    // again. The counters continue, so that no frame is accepted twice if an old epoch returns.
    peers = Self.peers(of: configuration.node)
    subscriber?.reopen()
  }

  // MARK: Sending

  private func publisherOpened() {
    noteConnected()
    sendHeartbeat()
  }

  func publish(_ events: [Event]) {
    // Events for all nodes, such as changes of access, must keep their order relative to entries. So the events are
    // divided into runs of one kind: within a run they are grouped by channel, and runs are sent in order.
    var run: [Event] = []
    for event in events where event.isShared {
      if let last = run.last, (last.room == nil) != (event.room == nil) {
        publishRun(run)
        run = []
      }
      run.append(event)
    }
    publishRun(run)
  }

  private func publishRun(_ events: [Event]) {
    guard events.count > 1 else {
      if let event = events.first { send([event], in: Channel(of: event)) }
      return
    }
    var order: [Channel] = []
    var byChannel: [Channel: [Event]] = [:]
    for event in events {
      let channel = Channel(of: event)
      if byChannel[channel] == nil { order.append(channel) }
      byChannel[channel, default: []].append(event)
    }
    for channel in order { send(byChannel[channel] ?? [], in: channel) }
  }

  private func send(_ events: [Event], in channel: Channel) {
    var part: [Event] = []
    var bytes = 0
    for event in events {
      part.append(event)
      bytes += event.cost
      guard bytes >= Self.frameBytes else { continue }
      sendFrame(part, in: channel)
      (part, bytes) = ([], 0)
    }
    if !part.isEmpty { sendFrame(part, in: channel) }
  }

  private func sendFrame(_ events: [Event], in channel: Channel) {
    let areSignals = events.allSatisfy { if case .signal = $0 { true } else { false } }
    let maximum = areSignals ? Self.maximumQueuedBytesForSignals : Self.maximumQueuedBytes
    guard let publisher, publisher.isOpen, publisher.queuedBytes <= maximum else {
      metrics.unsent.add()
      // The lost frame is counted, so that other nodes detect the gap. Signals need no recovery, so they are not
      // counted.
      if !areSignals { counters[channel, default: 0] += 1 }
      return
    }
    send(.events(EventCoding.encode(events)), in: channel)
  }

  private func send(_ content: FanoutFrame.Content, in channel: Channel) {
    guard let name = names[channel] else { return }
    counters[channel, default: 0] += 1
    let frame = FanoutFrame(
      node: configuration.node, counter: counters[channel] ?? 0, content: content)
    publisher?.send([
      Array("PUBLISH".utf8), Array(name.utf8), frame.bytes(in: name, configuration.key),
    ])
    metrics.sent.add()
  }

  private func sendHeartbeat() {
    guard let publisher, publisher.isOpen, publisher.queuedBytes <= Self.maximumQueuedBytes else {
      return
    }
    var sent = counters
    sent[.all] = nil
    let heartbeat = Heartbeat(challenge: peers.challenge, answers: peers.answers, counters: sent)
    send(.heartbeat(heartbeat), in: .all)
  }

  /// Sends a heartbeat after `answerMilliseconds`. It answers all nodes whose heartbeats arrive until then.
  private func sendAnswer() {
    guard !isHeartbeatDue else { return }
    isHeartbeatDue = true
    loop.schedule(after: Self.answerMilliseconds) { [weak self] in
      self?.isHeartbeatDue = false
      self?.sendHeartbeat()
    }
  }

  // MARK: Subscribing

  func interestChanged() { subscribe(.unchanged) }

  private func subscribe(_ news: Subscription) {
    let changes = interest(news)
    if case .began = news {
      peers.unfollowAll()
      noteConnected()
    }
    var wanted = changes.subscribe.map(Channel.init)
    if case .began = news { wanted.append(.all) }
    if !wanted.isEmpty { subscriber?.ask(["SUBSCRIBE"] + wanted.compactMap { names[$0] }) }
    guard !changes.unsubscribe.isEmpty else { return }
    subscriber?.ask(["UNSUBSCRIBE"] + changes.unsubscribe.compactMap { names[Channel($0)] })
  }

  // MARK: Receiving

  /// Handles Redis replies that arrived together.
  private func take(_ replies: [RedisReply]) {
    var confirmations: [Shard] = []
    var events: [Event] = []
    for reply in replies {
      guard case .array(let parts) = reply, case .bytes(let kind)? = parts.first, parts.count == 3,
        case .bytes(let name) = parts[1],
        let channel = channels[String(decoding: name, as: UTF8.self)]
        // Otherwise it is an answer to PING, or a message on a channel of an earlier epoch.
      else { continue }
      switch (String(decoding: kind, as: UTF8.self), parts[2]) {
      case ("message", .bytes(let bytes)): events += take(bytes, in: channel)
      case ("subscribe", _):
        peers.follow(channel)
        if let shard = channel.shard { confirmations.append(shard) }
      case ("unsubscribe", _):
        peers.unfollow(channel)
        if let shard = channel.shard { confirmations.append(shard) }
      default: break
      }
    }
    let missed = confirmations.isEmpty ? [] : confirmed(confirmations)
    if !missed.isEmpty { events.append(.missed(missed)) }
    if !events.isEmpty { receive(events) }
    lookForGaps()
  }

  /// Returns the events of a received frame; none if the frame is not accepted.
  private func take(_ bytes: [UInt8], in channel: Channel) -> [Event] {
    guard let claimed = FanoutFrame.claimedNode(bytes) else {
      metrics.unreadable.add()
      return []
    }
    // Redis also delivers this node's own frames.
    if claimed == configuration.node { return [] }
    guard bytes.count <= maximumFrameBytes, let name = names[channel],
      let frame = FanoutFrame(bytes, in: name, configuration.key)
    else {
      refuse(channel)
      return []
    }
    let now = Monotonic.milliseconds
    if case .heartbeat(let heartbeat) = frame.content {
      return channel == .all ? take(heartbeat, frame, now) : []
    }
    switch peers.judge(frame.counter, of: frame.node, in: channel, now: now) {
    case .accepted: metrics.received.add()
    case .repeated:
      metrics.repeated.add()
      return []
    case .notAccepted:
      metrics.notAccepted.add()
      return []
    case .notFollowed: return []
    }
    guard case .events(let bytes) = frame.content else { return [] }
    if let events = EventCoding.decode(bytes[...]) { return events }
    // The frame comes from a node, but this release cannot decode it. Its content is read from the database instead.
    metrics.unreadable.add()
    return channel.shard.map { [.missed([$0])] } ?? []
  }

  private func take(_ heartbeat: Heartbeat, _ frame: FanoutFrame, _ now: Int64) -> [Event] {
    let result = peers.receive(heartbeat, frame.counter, of: frame.node, now: now)
    if result.wantsAnswer { sendAnswer() }
    guard result.isAccepted else { return [] }
    metrics.peers.set(peers.count)
    return [.missed(Set((0...UInt8.max).map(Shard.init(index:))))]
  }

  /// Counts a frame that was not sealed with the nodes' key, and logs it at most once a minute.
  private func refuse(_ channel: Channel) {
    metrics.forged.add()
    let now = Monotonic.milliseconds
    if let last = forgedLoggedAt, now - last < Self.logMilliseconds { return }
    forgedLoggedAt = now
    log.warning(
      "fanout_frame_refused",
      ["channel": .init(names[channel] ?? ""), "redis": .init(configuration.url.place)])
  }

  /// If frames are missing, schedules a check after `gapMilliseconds`. Frames that are still missing then count as
  /// lost.
  private func lookForGaps() {
    guard !isLookingForGaps, peers.hasGaps else { return }
    isLookingForGaps = true
    loop.schedule(after: Self.gapMilliseconds) { [weak self] in self?.expireGaps() }
  }

  private func expireGaps() {
    isLookingForGaps = false
    let lost = peers.lost(missingSince: Monotonic.milliseconds - Int64(Self.gapMilliseconds))
    if !lost.isEmpty {
      metrics.gaps.add()
      let shards = Set(lost.compactMap(\.shard))
      // The channel of all has no shard. Changes of access that were lost on it are found by the comparison with the
      // database, three times a second. Lost signals and invitations are not recovered.
      if !shards.isEmpty { receive([.missed(shards)]) }
    }
    lookForGaps()
  }
}

extension Event {
  /// The approximate encoded size of the event, in bytes.
  fileprivate var cost: Int {
    switch self {
    case .entry(let entry, _): entry.cost
    case .signal(let signal): signal.content.count + 64
    case .access, .receipt, .compared, .epochChanged, .missed: 64
    }
  }
}
