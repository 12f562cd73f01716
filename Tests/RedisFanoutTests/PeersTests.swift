import Events
import Testing

@testable import RedisFanout

@Suite struct PeersTests {
  private static let (a, b) = (NodeID(1), NodeID(2))
  private static let channel = Channel(Shard(index: 3))

  /// A simulated node: its `Peers`, and the counters of the frames that it sends.
  private final class Node {
    let id: NodeID
    var peers: Peers
    var counters: [Channel: UInt64] = [:]

    init(_ id: NodeID, challenges: [UInt64]) {
      self.id = id
      var next = challenges[...]
      peers = Peers(node: id) { next.popFirst() ?? 99 }
    }

    /// Returns the node's next heartbeat, with the counter of its frame.
    func heartbeat() -> (Heartbeat, UInt64) {
      counters[.all, default: 0] += 1
      var sent = counters
      sent[.all] = nil
      return (
        Heartbeat(challenge: peers.challenge, answers: peers.answers, counters: sent),
        counters[.all] ?? 0
      )
    }

    func send() -> UInt64 {
      counters[PeersTests.channel, default: 0] += 1
      return counters[PeersTests.channel] ?? 0
    }

    func receive(_ heartbeat: (Heartbeat, UInt64), of node: NodeID, now: Int64 = 0)
      -> Peers.HeartbeatResult
    {
      peers.receive(heartbeat.0, heartbeat.1, of: node, now: now)
    }

    /// Gives up frames that have been missing since `moment` or before. Returns their channels.
    func lost(since moment: Int64) -> Set<Channel> { peers.lost(missingSince: moment) }

    func accepts(_ counter: UInt64, of node: NodeID, now: Int64 = 0) -> Bool {
      peers.judge(counter, of: node, in: PeersTests.channel, now: now) == .accepted
    }
  }

  /// Makes two nodes that have accepted each other.
  private static func friends() -> (Node, Node) {
    let (a, b) = (Node(a, challenges: [11, 12]), Node(b, challenges: [21, 22]))
    a.peers.follow(channel)
    b.peers.follow(channel)
    var result = b.receive(a.heartbeat(), of: a.id)
    #expect(result == Peers.HeartbeatResult(wantsAnswer: true, isAccepted: false))
    result = a.receive(b.heartbeat(), of: b.id)
    #expect(result == Peers.HeartbeatResult(wantsAnswer: true, isAccepted: true))
    result = b.receive(a.heartbeat(), of: a.id)
    #expect(result == Peers.HeartbeatResult(wantsAnswer: false, isAccepted: true))
    return (a, b)
  }

  @Test func `frames count after the challenge was answered, and once`() {
    let stranger = Node(Self.a, challenges: [11])
    stranger.peers.follow(Self.channel)
    #expect(!stranger.accepts(1, of: Self.b))
    let (a, b) = Self.friends()
    let counter = a.send()
    #expect(b.accepts(counter, of: a.id))
    #expect(!b.accepts(counter, of: a.id))
    #expect(b.peers.count == 1 && a.peers.count == 1)
  }

  @Test func `what a node said before another started is worth nothing to that`() {
    let (a, b) = Self.friends()
    // An attacker records this heartbeat and frame, and replays them below.
    let (old, counter) = (a.heartbeat(), a.send())
    #expect(b.accepts(counter, of: a.id))
    let later = Node(NodeID(3), challenges: [31])
    later.peers.follow(Self.channel)
    for _ in 0..<3 {
      #expect(!later.receive(old, of: a.id).isAccepted)
      #expect(!later.accepts(counter, of: a.id))
    }
    // The real node is accepted as soon as it answers the challenge.
    let greeting = later.heartbeat()
    #expect(a.receive(greeting, of: later.id).wantsAnswer)
    let answer = a.heartbeat()
    #expect(later.receive(answer, of: a.id).isAccepted)
    #expect(!later.accepts(counter, of: a.id))
    let next = a.send()
    #expect(later.accepts(next, of: a.id))
  }

  @Test func `a node that was forgotten has to answer anew`() {
    let (a, b) = Self.friends()
    let (old, counter) = (a.heartbeat(), a.send())
    #expect(b.accepts(counter, of: a.id))
    b.peers.forgetSilent(now: 30_000)
    #expect(b.peers.count == 1)
    b.peers.forgetSilent(now: 30_001)
    #expect(b.peers.count == 0)
    // A replayed heartbeat does not make the node accepted again.
    #expect(!b.receive(old, of: a.id).isAccepted)
    #expect(!b.accepts(counter, of: a.id))
    let question = b.heartbeat()
    #expect(a.receive(question, of: b.id).wantsAnswer)
    let answer = a.heartbeat()
    #expect(b.receive(answer, of: a.id, now: 30_002).isAccepted)
    #expect(!b.accepts(counter, of: a.id))
  }

  @Test func `a heartbeat tells of frames that nobody received`() {
    let (a, b) = Self.friends()
    _ = a.send()
    let heartbeat = a.heartbeat()
    _ = b.receive(heartbeat, of: a.id, now: 100)
    #expect(b.peers.hasGaps)
    #expect(b.lost(since: 99).isEmpty)
    #expect(b.lost(since: 100) == [Self.channel])
    #expect(!b.peers.hasGaps)
    // A repeated heartbeat changes nothing.
    _ = a.send()
    #expect(b.receive(heartbeat, of: a.id, now: 200) == Peers.HeartbeatResult())
    #expect(!b.peers.hasGaps)
  }

  @Test func `a channel counts from where its node stood when it was followed`() {
    let (a, b) = Self.friends()
    b.peers.unfollow(Self.channel)
    for _ in 0..<5 { _ = a.send() }
    _ = b.receive(a.heartbeat(), of: a.id)
    #expect(!b.peers.hasGaps)
    b.peers.follow(Self.channel)
    let lost = a.send()
    let next = a.send()
    #expect(b.accepts(next, of: a.id))
    #expect(b.peers.hasGaps)
    #expect(b.accepts(lost, of: a.id))
    #expect(!b.peers.hasGaps)
  }

  @Test func `what came counts once, also where the channel is followed again`() {
    let (a, b) = Self.friends()
    let counter = a.send()
    #expect(b.accepts(counter, of: a.id))
    b.peers.unfollow(Self.channel)
    b.peers.follow(Self.channel)
    #expect(!b.accepts(counter, of: a.id))
    // A replayed earlier heartbeat does not undo it either.
    let old = a.heartbeat()
    let next = a.send()
    #expect(b.accepts(next, of: a.id))
    _ = b.receive(old, of: a.id)
    b.peers.unfollow(Self.channel)
    b.peers.follow(Self.channel)
    #expect(!b.accepts(next, of: a.id))
    #expect(!b.peers.hasGaps)
  }

  @Test func `what is said again keeps nobody alive`() {
    let (a, b) = Self.friends()
    let counter = a.send()
    #expect(b.accepts(counter, of: a.id))
    for now in stride(from: Int64(1000), through: 31_000, by: 1000) {
      #expect(!b.accepts(counter, of: a.id, now: now))
    }
    b.peers.forgetSilent(now: 31_000)
    #expect(b.peers.count == 0)
  }
}
