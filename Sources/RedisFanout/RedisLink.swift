internal import Basics
internal import Crypto
internal import EventLoop
internal import Events
internal import TLS

/// The part of a `RedisFanout` that runs on the loop: both connections, this node's counters, and what other nodes
/// send. Used on the loop only.
final class RedisLink {
  /// How the subscription has changed.
  enum Subscription { case began, ended, unchanged }

  /// Receives the events of other nodes. Set once, before `open`.
  var receive: @Sendable ([Event]) -> Void = { _ in }
  /// Returns what to subscribe to and to unsubscribe from.
  var interest: (Subscription) -> (subscribe: [Shard], unsubscribe: [Shard]) = { _ in ([], []) }
  /// Told what Redis has confirmed. Returns the shards in which something may have been missed.
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
  /// The number of this node's frames in each channel, whether sent or lost.
  private var counters: [Channel: UInt64] = [:]
  private var publisher: RedisConnector?
  private var subscriber: RedisConnector?
  private var timer: LoopTimer?
  private var isLookingForGaps = false
  private var isBeaconDue = false
  private var forgedLoggedAt: Int64?

  private static let beaconMilliseconds = 1000
  /// The shortest pause between heartbeats that answer another node.
  private static let answerMilliseconds = 20
  /// A frame counts as lost this long after a later frame has arrived.
  private static let gapMilliseconds = 50
  /// The most bytes that may wait for Redis. The limit for signals, which are lost first, is lower.
  private static let maximumQueuedBytes = 8 * 1024 * 1024
  private static let maximumQueuedBytesForSignals = 512 * 1024
  /// The approximate size of a frame. A larger commit is divided into several.
  private static let frameBytes = 128 * 1024
  private static let logMilliseconds: Int64 = 60_000
  /// How long the end may take if Redis is slow.
  private static let finishMilliseconds = 500
  private static let finishPauseMilliseconds = 10

  /// No node sends frames larger than this.
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
    // Weak, here and below: connections and timers may outlive this object for a moment.
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
    timer = loop.schedule(every: Self.beaconMilliseconds) { [weak self] in self?.tick() }
    loop.onTurnEnd { [weak self] in
      self?.publisher?.flush()
      self?.subscriber?.flush()
    }
  }

  /// Sends what was published, followed by a heartbeat, if that takes little time. Then closes.
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
    // This retains the object until then.
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
    // Reconnects with the new names, and all nodes have to be accepted again. Counters continue, so that nothing
    // counts twice if an old epoch returns.
    peers = Self.peers(of: configuration.node)
    subscriber?.reopen()
  }

  // MARK: Sending

  private func publisherOpened() {
    noteConnected()
    sendHeartbeat()
  }

  func publish(_ events: [Event]) {
    // Changes of access are ordered with the entries around them, and must not be overtaken by entries of other
    // channels.
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
      // Counted although it is lost, so that others detect the gap. Nobody looks for a lost signal.
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

  /// Sends a heartbeat soon, once for all nodes that ask meanwhile.
  private func sendAnswer() {
    guard !isBeaconDue else { return }
    isBeaconDue = true
    loop.schedule(after: Self.answerMilliseconds) { [weak self] in
      self?.isBeaconDue = false
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

  /// Handles replies of Redis that arrived together.
  private func take(_ replies: [RedisReply]) {
    var confirmations: [Shard] = []
    var events: [Event] = []
    for reply in replies {
      guard case .array(let parts) = reply, case .bytes(let kind)? = parts.first, parts.count == 3,
        case .bytes(let name) = parts[1],
        let channel = channels[String(decoding: name, as: UTF8.self)]
        // An answer to PING, or a message on a channel of an earlier epoch.
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

  /// The events of a frame; none if it does not count.
  private func take(_ bytes: [UInt8], in channel: Channel) -> [Event] {
    guard let claimed = FanoutFrame.claimedNode(bytes) else {
      metrics.unreadable.add()
      return []
    }
    // A node also receives its own frames.
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
    // The frame comes from a node, but cannot be read by this release. The database has what it says.
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

  /// The frame was not sealed with our key.
  private func refuse(_ channel: Channel) {
    metrics.forged.add()
    let now = Monotonic.milliseconds
    if let last = forgedLoggedAt, now - last < Self.logMilliseconds { return }
    forgedLoggedAt = now
    log.warning(
      "fanout_frame_refused",
      ["channel": .init(names[channel] ?? ""), "redis": .init(configuration.url.place)])
  }

  /// Missing frames get a moment to arrive; then they count as lost.
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
      // Lost changes of access on the channel of all are found by the comparison with the database, three times a
      // second. Lost signals and invitations are not recovered.
      if !shards.isEmpty { receive([.missed(shards)]) }
    }
    lookForGaps()
  }
}

extension Event {
  /// Its approximate encoded size.
  fileprivate var cost: Int {
    switch self {
    case .entry(let entry, _): entry.cost
    case .signal(let signal): signal.content.count + 64
    case .access, .receipt, .compared, .epochChanged, .missed: 64
    }
  }
}
