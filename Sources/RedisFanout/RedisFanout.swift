package import Basics
package import Crypto
package import EventLoop
package import Events
internal import Synchronization
internal import TLS

/// A fan-out that carries events between nodes through Redis channels (docs/scaling.md).
///
/// All network I/O happens on one loop. There are two connections, one to publish and one to subscribe, because a
/// subscribed connection cannot send other commands. Publishing never waits for Redis. Events that cannot be sent are
/// lost; the other nodes detect the loss from the counters of later frames.
package final class RedisFanout: Fanout {
  /// The address of the Redis server, and the identity of this node.
  package struct Configuration: Sendable {
    package let url: RedisURL
    /// The PEM file of trusted certificate authorities for `rediss://`; nil means those of the system.
    package let authorities: String?
    package let node: NodeID
    /// The key that seals frames. All nodes of the database have it, and nothing else may.
    package let key: SealingKey
    /// The epoch of the log when the fan-out is made. Channel names begin with it.
    package let epoch: String
    /// The largest content of an entry, in bytes. Received frames that are much larger are refused, because no node
    /// sends them.
    package let maximumEventBytes: Int

    package init(
      url: RedisURL, authorities: String?, node: NodeID, key: SealingKey, epoch: String,
      maximumEventBytes: Int
    ) {
      self.url = url
      self.authorities = authorities
      self.node = node
      self.key = key
      self.epoch = epoch
      self.maximumEventBytes = maximumEventBytes
    }
  }

  /// The state that other threads than the loop's use too.
  private struct Shared {
    var interest = Interest()
    var waiters: [Int: Waiter] = [:]
    var nextWaiter = 0
    var isStopped = false
  }
  private struct Waiter {
    let shards: Set<Shard>
    let continuation: CheckedContinuation<Void, Never>
  }

  private let loop: Loop
  private let shared = Mutex(Shared())
  private let link: LoopBound<RedisLink>

  /// How long `following` waits for Redis to confirm a subscription. After that it returns anyway.
  private static let followingMilliseconds = 250

  /// Must be called on `loop`, which does all network I/O. Connects only when `start` is called. Throws `TLSError` if
  /// the authorities cannot be read.
  package init(
    _ configuration: Configuration, loop: Loop, log: Log, metrics: Metrics
  ) throws {
    self.loop = loop
    let tls =
      try configuration.url.usesTLS ? TLSClient(authorities: configuration.authorities) : nil
    link = LoopBound(
      RedisLink(configuration, tls: tls, loop: loop, log: log, RedisFanoutMetrics(metrics)),
      on: loop)
    // Weak: this object owns the link.
    link.value.interest = { [weak self] in self?.takeChanges(since: $0) ?? ([], []) }
    link.value.confirmed = { [weak self] in self?.confirmed($0) ?? [] }
  }

  package func start(_ receive: @escaping @Sendable ([Event]) -> Void) {
    loop.execute(with: link) { link in
      link.receive = receive
      link.open()
    }
  }

  package func publish(_ events: [Event]) {
    guard events.contains(where: \.isShared) else { return }
    loop.execute(with: link) { $0.publish(events) }
  }

  package func epochChanged(to epoch: String) {
    loop.execute(with: link) { $0.epochChanged(to: epoch) }
  }

  package func stop() async {
    let waiting = shared.withLock { shared in
      shared.isStopped = true
      defer { shared.waiters = [:] }
      return shared.waiters.values.map(\.continuation)
    }
    for continuation in waiting { continuation.resume() }
    await withCheckedContinuation { continuation in
      loop.execute(with: link) { link in link.finish { continuation.resume() } }
    }
  }

  // MARK: Following

  package func follow(_ rooms: [RoomID]) {
    if shared.withLock({ $0.interest.follow(rooms) }) {
      loop.execute(with: link) { $0.interestChanged() }
    }
  }

  package func unfollow(_ rooms: [RoomID]) {
    if shared.withLock({ $0.interest.unfollow(rooms) }) {
      loop.execute(with: link) { $0.interestChanged() }
    }
  }

  package func following(_ rooms: [RoomID]) async {
    let shards = Shard.of(rooms)
    if shared.withLock({ $0.interest.unconfirmed(of: shards).isEmpty }) { return }
    await withCheckedContinuation { continuation in
      let number: Int? = shared.withLock { shared in
        guard !shared.isStopped, !shared.interest.unconfirmed(of: shards).isEmpty else {
          return nil
        }
        shared.nextWaiter += 1
        shared.waiters[shared.nextWaiter] = Waiter(shards: shards, continuation: continuation)
        return shared.nextWaiter
      }
      guard let number else {
        continuation.resume()
        return
      }
      loop.execute { [weak self, loop] in
        loop.schedule(after: Self.followingMilliseconds) { self?.stopWaiting(number) }
      }
    }
  }

  /// Lets a call of `following` return although Redis has not confirmed the subscription in time.
  private func stopWaiting(_ number: Int) {
    let waiter = shared.withLock { shared in
      let waiter = shared.waiters.removeValue(forKey: number)
      if let waiter { shared.interest.noteUnconfirmed(waiter.shards) }
      return waiter
    }
    waiter?.continuation.resume()
  }

  // MARK: Callbacks of the link

  private func takeChanges(
    since news: RedisLink.Subscription
  ) -> (subscribe: [Shard], unsubscribe: [Shard]) {
    let (changes, released) = shared.withLock { shared in
      switch news {
      case .began: shared.interest.connected()
      case .ended: shared.interest.disconnected()
      case .unchanged: break
      }
      guard !shared.interest.isConnected else { return (shared.interest.takeChanges(), [Waiter]()) }
      let released = Array(shared.waiters.values)
      shared.waiters = [:]
      for waiter in released { shared.interest.noteUnconfirmed(waiter.shards) }
      return (([], []), released)
    }
    for waiter in released { waiter.continuation.resume() }
    return changes
  }

  /// Handles confirmations of Redis, and lets calls of `following` return that waited for them. Returns those of the
  /// shards in which events may have been missed before the confirmation.
  private func confirmed(_ shards: [Shard]) -> Set<Shard> {
    let (missed, released) = shared.withLock { shared in
      let missed = Set(shards.filter { shared.interest.confirmed($0) })
      let done = shared.waiters.filter { shared.interest.holds($0.value.shards) }
      for number in done.keys { shared.waiters[number] = nil }
      return (missed, Array(done.values))
    }
    for waiter in released { waiter.continuation.resume() }
    return missed
  }
}
