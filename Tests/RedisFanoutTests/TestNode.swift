import Access
import Basics
import Crypto
import EventLoop
import Events
import RedisFanout
import Synchronization
import TestSupport
import Testing

/// The fan-out that carries events between the nodes of a test.
enum Carrier: CaseIterable {
  case inProcess, redis
  /// Redis behind a proxy that drops, duplicates, delays and reorders messages.
  case spoiledRedis

  /// Starts this many nodes, and returns when they have accepted each other.
  func nodes(_ count: Int) async throws -> [TestNode] {
    switch self {
    case .inProcess:
      let bus = InProcessFanout.Bus()
      return (0..<count).map { _ in TestNode(InProcessFanout(on: bus)) }
    case .redis:
      return try await TestNode.onRedis(port: SharedRedis.plain.get().port, count)
    case .spoiledRedis:
      return try await TestNode.onRedis(port: SharedRedis.spoiled.get().proxy, count)
    }
  }
}

/// The Redis servers that tests share if they do not stop or change them.
enum SharedRedis {
  static let plain = Result { try TestRedis() }
  static let spoiled = Result {
    let redis = try TestRedis()
    try redis.spoil(drop: 0.05, double: 0.1, delay: 0.1, reorder: 0.1, milliseconds: 40)
    return redis
  }
}

/// A node of a test: an event stream with a fan-out, which records all events that its listeners receive.
final class TestNode: Sendable {
  let events: EventStream
  let fanout: any Fanout
  private struct Heard {
    var events: [Event] = []
    var waiting: [(isDone: ([Event]) -> Bool, continuation: CheckedContinuation<Void, Never>)] = []
  }
  private let heard = Mutex(Heard())

  init(_ fanout: any Fanout) {
    self.fanout = fanout
    events = EventStream(fanout: fanout)
    events.listen { [weak self] in self?.take($0) }
  }

  private func take(_ events: [Event]) {
    let done = heard.withLock { heard in
      heard.events += events
      let done = heard.waiting.filter { $0.isDone(heard.events) }
      heard.waiting.removeAll { $0.isDone(heard.events) }
      return done.map(\.continuation)
    }
    for continuation in done { continuation.resume() }
  }

  /// All events that the listeners have received so far, including the node's own.
  var all: [Event] { heard.withLock { $0.events } }

  /// Waits until `isDone` returns true for the events received so far.
  func until(_ isDone: @escaping @Sendable ([Event]) -> Bool) async {
    await withCheckedContinuation { continuation in
      let isDoneNow = heard.withLock { heard in
        guard !isDone(heard.events) else { return true }
        heard.waiting.append((isDone, continuation))
        return false
      }
      if isDoneNow { continuation.resume() }
    }
  }

  /// Waits as above, and meanwhile calls `body` every 20 ms.
  func until(
    _ isDone: @escaping @Sendable ([Event]) -> Bool, repeating body: @escaping @Sendable () -> Void
  ) async {
    let repeated = Task {
      while !Task.isCancelled {
        body()
        await Self.loop.sleep(milliseconds: 20)
      }
    }
    await until(isDone)
    repeated.cancel()
    await repeated.value
  }

  // MARK: Nodes on Redis

  static let loop = Loop(index: 0, name: "fanout")
  // Never nil: the array has exactly the size of a key.
  static let key = SealingKey([UInt8](repeating: 7, count: SealingKey.byteCount))!

  private static let nextNode = Atomic<UInt64>(1)

  /// Makes a node, without waiting until other nodes have accepted it.
  static func onRedis(
    url: String, epoch: String, key: SealingKey = TestNode.key, authorities: String? = nil,
    log: Log = .none, metrics: Metrics = Metrics()
  ) async throws -> TestNode {
    let url = try #require(RedisURL(url))
    let number = nextNode.wrappingAdd(1, ordering: .relaxed).newValue
    let configuration = RedisFanout.Configuration(
      url: url, authorities: authorities, node: NodeID(number), key: key, epoch: epoch,
      maximumEventBytes: 400_000)
    let fanout = try await loop.value {
      Result { try RedisFanout(configuration, loop: loop, log: log, metrics: metrics) }
    }.get()
    return TestNode(fanout)
  }

  /// Makes nodes of one epoch, and returns when they have accepted each other.
  static func onRedis(port: UInt16, _ count: Int) async throws -> [TestNode] {
    let epoch = "\(UUID.version7())"
    var nodes: [TestNode] = []
    for _ in 0..<count {
      nodes.append(try await onRedis(url: "redis://127.0.0.1:\(port)", epoch: epoch))
    }
    for node in nodes { await node.hears(count - 1) }
    return nodes
  }

  /// Waits until this node has accepted other nodes this many times in total. Each acceptance is announced as a
  /// possible loss in all 256 shards.
  func hears(_ count: Int) async {
    await until { events in
      events.count {
        if case .missed(let shards) = $0 { shards.count == 256 } else { false }
      } >= count
    }
  }
}

extension Loop {
  /// Runs `body` on the loop, and returns its result.
  func value<Value: Sendable>(_ body: @escaping @Sendable () -> Value) async -> Value {
    await withCheckedContinuation { continuation in
      execute { continuation.resume(returning: body()) }
    }
  }
}

extension Entry {
  /// Makes a message with a new id.
  static func numbered(_ seq: Int64, in room: Int64) -> Entry {
    Entry(
      roomID: RoomID(room), seq: seq, id: .make(), from: nil, channelID: "\(room)",
      ts: Timestamp(milliseconds: seq), clientID: nil, ordinal: seq,
      body: .message(MessageContent(type: .text, data: "\(room) \(seq)")))
  }
}

extension [Event] {
  /// The ids of the entries among the events.
  var entryIDs: [MessageID] {
    compactMap { if case .entry(let entry, _) = $0 { entry.id } else { nil } }
  }

  var signals: [Signal] {
    compactMap { if case .signal(let signal) = $0 { signal } else { nil } }
  }

  var changes: [AccessChange] {
    compactMap { if case .access(let change) = $0 { change } else { nil } }
  }

  /// The shards in which a loss was announced.
  var missed: Set<Shard> {
    reduce(into: []) { if case .missed(let shards) = $1 { $0.formUnion(shards) } }
  }
}
