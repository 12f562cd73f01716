import Access
import Basics
import Crypto
import Events
import Foundation
import TestSupport
import Testing

@testable import RedisFanout

/// Tests with a Redis that is down, is not a Redis, refuses commands, hangs, restarts empty, or is shared with
/// strangers.
@Suite(.timeLimit(.minutes(2))) struct RedisTroubleTests {
  private static let room = RoomID(9)

  private static func url(_ port: UInt16, _ credentials: String = "") -> String {
    "redis://\(credentials)127.0.0.1:\(port)"
  }

  /// Makes a node that follows the room, waits for the confirmation, and publishes an entry. `following` returns
  /// whatever Redis does.
  private static func open(_ url: String, epoch: String = "e", _ lines: LogLines) async throws
    -> TestNode
  {
    let node = try await TestNode.onRedis(url: url, epoch: epoch, log: lines.log)
    node.fanout.follow([room])
    await node.fanout.following([room])
    node.events.publish([.entry(.numbered(1, in: room.value), origin: nil)])
    return node
  }

  @Test(arguments: [
    "HTTP/1.1 400 Bad Request\r\n\r\n", "*2147483647\r\n", "\0\0\0\0", "+PONG", "$-7\r\n",
    "*3\r\n$7\r\nmessage\r\n", ":1\r\n",
  ])
  func `who is no Redis is left, and said so`(_ answer: String) async throws {
    let lines = LogLines()
    let port = try TestRedis.liar(answering: Array(answer.utf8))
    let node = try await Self.open(Self.url(port), lines)
    await lines.until("fanout_lost")
    await node.fanout.stop()
    #expect(lines.count("fanout_connected") == 0)
  }

  @Test func `who lies all the time harms nobody`() async throws {
    // Replies that the subscriber did not ask for: confirmations, forged frames, messages on unknown channels, and
    // replies of a wrong form.
    let lies =
      "+PONG\r\n"
      + "*3\r\n$9\r\nsubscribe\r\n$3\r\ne:9\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$3\r\ne:9\r\n$20\r\n\u{1}forged, not sealed!\r\n"
      + "*3\r\n$7\r\nmessage\r\n$5\r\ne:all\r\n$0\r\n\r\n*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$1\r\ny\r\n"
      + "*3\r\n:1\r\n:2\r\n:3\r\n*0\r\n$-1\r\n*3\r\n$11\r\nunsubscribe\r\n$3\r\ne:9\r\n:-5\r\n"
    let lines = LogLines()
    let port = try TestRedis.liar(answering: Array(lies.utf8))
    let node = try await Self.open(Self.url(port), lines)
    await lines.until("fanout_frame_refused")
    await lines.until("fanout_connected")
    #expect(node.all.entryIDs.count == 1)
    await node.fanout.stop()
  }

  @Test func `who says nothing is left as well`() async throws {
    let lines = LogLines()
    let node = try await Self.open(Self.url(try TestRedis.liar(answering: [])), lines)
    await lines.until("nothing was heard of it")
    await node.fanout.stop()
  }

  @Test func `nobody there, and no such host`() async throws {
    for (url, cause) in [
      ("redis://127.0.0.1:1", "connection refused"),
      ("redis://nowhere.invalid", "getaddrinfo: "),
    ] {
      let lines = LogLines()
      let node = try await Self.open(url, lines)
      await lines.until(cause)
      await node.fanout.stop()
    }
  }

  @Test func `a password is asked for`() async throws {
    let redis = try TestRedis([
      "--requirepass", "s3cret:@", "--user", "ada", "on", ">word", "&*", "-@all", "+publish",
      "+subscribe", "+unsubscribe", "+ping",
    ])
    for (credentials, cause) in [
      ("", "NOAUTH"), ("mistaken@", "WRONGPASS"), ("ada:mistaken@", "WRONGPASS"),
    ] {
      let lines = LogLines()
      let node = try await Self.open(Self.url(redis.port, credentials), lines)
      await lines.until(cause)
      await node.fanout.stop()
      #expect(lines.count("mistaken") == 0)
    }
    // A server that does not know the command `AUTH` repeats its arguments in the error. They must not be logged.
    let deaf = try TestRedis(["--rename-command", "AUTH", ""])
    let lines = LogLines()
    let node = try await Self.open(Self.url(deaf.port, "s3cret@"), lines)
    await lines.until("Redis refuses: ERR")
    await node.fanout.stop()
    #expect(lines.count("s3cret") == 0)

    let epoch = "\(UUID.version7())"
    for credentials in ["s3cret%3A%40@", "ada:word@"] {
      let node = try await TestNode.onRedis(
        url: Self.url(redis.port, credentials), epoch: epoch)
      let other = try await TestNode.onRedis(url: Self.url(redis.port, "ada:word@"), epoch: epoch)
      await other.hears(1)
      await node.fanout.stop()
      await other.fanout.stop()
    }
  }

  @Test func `a user who may not publish is said so, and not too often`() async throws {
    let redis = try TestRedis([
      "--user", "ada", "on", ">word", "~*", "&*", "-@all", "+subscribe", "+unsubscribe", "+ping",
      "+auth",
    ])
    let lines = LogLines()
    let node = try await Self.open(Self.url(redis.port, "ada:word@"), lines)
    await lines.until("NOPERM")
    await lines.until("fanout_connected")
    #expect(lines.count("NOPERM") == 1)
    await node.fanout.stop()
  }

  @Test func `a Redis that is full says so`() async throws {
    // Only one client is allowed, so one of the node's two connections is refused.
    let redis = try TestRedis(["--maxclients", "1"])
    let first = LogLines()
    let node = try await Self.open(Self.url(redis.port), first)
    await first.until("it has too many clients")
    await node.fanout.stop()
  }

  @Test func `TLS, with the authority that is named`() async throws {
    let redis = try TestRedis([], tls: true)
    let epoch = "\(UUID.version7())"
    let url = "rediss://localhost:\(redis.port)"
    let nodes = [
      try await TestNode.onRedis(url: url, epoch: epoch, authorities: redis.certificate),
      try await TestNode.onRedis(url: url, epoch: epoch, authorities: redis.certificate),
    ]
    for node in nodes { await node.hears(1) }
    // The content is larger than a TLS record.
    let signal = Signal(
      to: .everyone, kind: "large", content: [UInt8](repeating: 1, count: 300_000))
    nodes[0].events.publish([.signal(signal)])
    await nodes[1].until { $0.signals == [signal] }
    for node in nodes { await node.fanout.stop() }

    for (url, authorities, cause) in [
      // An untrusted certificate, a certificate for another name, a server without TLS, and a client without TLS.
      (url, nil, "certificate is not accepted: self-signed certificate"),
      ("rediss://127.0.0.1:\(redis.port)", redis.certificate, "certificate is not accepted: IP"),
      ("rediss://localhost:\(try SharedRedis.plain.get().port)", redis.certificate, "fanout_lost"),
      ("redis://localhost:\(redis.port)", nil, "fanout_lost"),
    ] as [(String, String?, String)] {
      let lines = LogLines()
      let node = try await TestNode.onRedis(
        url: url, epoch: epoch, authorities: authorities, log: lines.log)
      await lines.until(cause)
      await node.fanout.stop()
      #expect(lines.count("fanout_connected") == 0)
    }
    await #expect(throws: (any Error).self) {
      try await TestNode.onRedis(url: url, epoch: epoch, authorities: "/nowhere.pem")
    }
  }

  // MARK: Outages

  /// Publishes an entry, and waits until the other node has received it or a loss in the room's shard was announced to
  /// it.
  private static func say(_ seq: Int64, from node: TestNode, to other: TestNode) async {
    let entry = Entry.numbered(seq, in: room.value)
    let before = other.all.count
    node.events.publish([.entry(entry, origin: nil)])
    await other.until {
      let heard = Array($0[before...])
      return heard.entryIDs.contains(entry.id) || heard.missed.contains(Shard(of: room))
    }
  }

  private static func pair(_ port: UInt16, _ logs: [LogLines]) async throws -> [TestNode] {
    let epoch = "\(UUID.version7())"
    var nodes: [TestNode] = []
    for lines in logs {
      nodes.append(try await TestNode.onRedis(url: url(port), epoch: epoch, log: lines.log))
    }
    for node in nodes {
      await node.hears(1)
      node.fanout.follow([room])
      await node.fanout.following([room])
    }
    return nodes
  }

  @Test func `killed and started again empty, nothing is missed without a word`() async throws {
    let redis = try TestRedis()
    let logs = [LogLines(), LogLines()]
    let nodes = try await Self.pair(redis.port, logs)
    for round in 1...3 {
      await Self.say(Int64(round * 10), from: nodes[0], to: nodes[1])
      let before = nodes.map(\.all.count)
      try redis.kill()
      let lost = Entry.numbered(Int64(round * 10 + 1), in: Self.room.value)
      nodes[0].events.publish([.entry(lost, origin: nil)])
      // Without Redis a room can still be followed. The entry above is lost; the announcement of the loss below makes
      // nodes compare heads.
      nodes[1].fanout.follow([RoomID(10)])
      await nodes[1].fanout.following([RoomID(10)])
      try redis.start()
      for (index, node) in nodes.enumerated() {
        await node.until {
          Array($0[before[index]...]).missed.isSuperset(
            of: index == 0 ? [Shard(index: 9)] : [Shard(index: 9), Shard(index: 10)])
        }
      }
      nodes[1].fanout.unfollow([RoomID(10)])
      await Self.say(Int64(round * 10 + 2), from: nodes[0], to: nodes[1])
      await Self.say(Int64(round * 10 + 3), from: nodes[1], to: nodes[0])
    }
    for node in nodes { await node.fanout.stop() }
  }

  @Test func `a Redis that stands still holds up nobody`() async throws {
    let redis = try TestRedis()
    let logs = [LogLines(), LogLines()]
    let nodes = try await Self.pair(redis.port, logs)
    let before = nodes[1].all.count
    try redis.pause()
    nodes[0].events.publish([.entry(.numbered(1, in: Self.room.value), origin: nil)])
    // The connections still count as open, so `following` waits for the new shards. It must return before a connection
    // is given up because of its silence.
    for room in [RoomID(11), RoomID(12)] {
      nodes[1].fanout.follow([room])
      await nodes[1].fanout.following([room])
    }
    for lines in logs { #expect(lines.count("nothing was heard of it") == 0) }
    for lines in logs { await lines.until("nothing was heard of it") }
    try redis.goOn()
    await nodes[1].until {
      Array($0[before...]).missed.isSuperset(of: [9, 11, 12].map { Shard(index: $0) })
    }
    await Self.say(2, from: nodes[0], to: nodes[1])
    for node in nodes { await node.fanout.stop() }
  }

  @Test func `the connection breaks between following and the reading of heads`() async throws {
    let redis = try TestRedis()
    let nodes = try await Self.pair(redis.proxy, [LogLines(), LogLines()])
    for round in 1...5 {
      let new = RoomID(Int64(100 + round))
      let before = nodes[1].all.count
      nodes[1].fanout.follow([new])
      if round % 2 == 0 { await nodes[1].fanout.following([new]) }
      try redis.shut()
      // A real node reads the room's head at this point. The entry is published afterwards, so it must be announced as
      // lost.
      if round % 2 == 1 { await nodes[1].fanout.following([new]) }
      nodes[0].events.publish([.entry(.numbered(1, in: new.value), origin: nil)])
      try redis.open()
      await nodes[1].until { Array($0[before...]).missed.contains(Shard(of: new)) }
    }
    for node in nodes { await node.fanout.stop() }
  }

  @Test func `another log has other channels`() async throws {
    let redis = try TestRedis()
    let nodes = try await Self.pair(redis.port, [LogLines(), LogLines()])
    let before = nodes.map(\.all.count)
    nodes[0].fanout.epochChanged(to: "restored")
    nodes[1].fanout.epochChanged(to: "restored")
    for (index, node) in nodes.enumerated() {
      await node.until {
        $0[before[index]...].contains {
          if case .missed(let all) = $0 { all.count == 256 } else { false }
        }
      }
    }
    await Self.say(1, from: nodes[0], to: nodes[1])
    for node in nodes { await node.fanout.stop() }
  }

  // MARK: Strangers

  @Test func `who has not the key cannot say anything`() async throws {
    let redis = try TestRedis()
    let epoch = "\(UUID.version7())"
    let lines = LogLines()
    let metrics = Metrics()
    let node = try await TestNode.onRedis(
      url: Self.url(redis.port), epoch: epoch, log: lines.log, metrics: metrics)
    node.fanout.follow([Self.room])
    await node.fanout.following([Self.room])
    let key = try #require(SealingKey([UInt8](repeating: 9, count: SealingKey.byteCount)))
    let stranger = try await TestNode.onRedis(url: Self.url(redis.port), epoch: epoch, key: key)
    for text in ["", "x", "\u{1}aaaaaaaabbbbbbbb", String(repeating: "y", count: 100_000)] {
      try Self.publish(text, in: "\(epoch):9", redis)
      try Self.publish(text, in: "\(epoch):all", redis)
    }
    stranger.events.publish([
      .entry(.numbered(1, in: Self.room.value), origin: nil),
      .access(.roomDeleted(Self.room, version: 1)),
    ])
    let friend = try await TestNode.onRedis(url: Self.url(redis.port), epoch: epoch)
    await node.hears(1)
    await Self.say(2, from: friend, to: node)
    #expect(node.all.changes.isEmpty)
    #expect(node.all.entryIDs.count == 1)
    #expect(lines.count("fanout_frame_refused") == 1)
    for node in [node, stranger, friend] { await node.fanout.stop() }
  }

  @Test func `what was said once counts once, whoever says it again`() async throws {
    let redis = try TestRedis()
    let epoch = "\(UUID.version7())"
    func node() async throws -> TestNode {
      try await TestNode.onRedis(url: Self.url(redis.port), epoch: epoch)
    }
    let speaker = try await node()
    try redis.record(["\(epoch):9", "\(epoch):all"])
    let hearer = try await node()
    await hearer.hears(1)
    hearer.fanout.follow([Self.room])
    await hearer.fanout.following([Self.room])
    let typing = Signal(to: .room(Self.room), kind: "typing", content: [1])
    let change = AccessChange.roomChanged(Self.room, version: 7)
    let entry = Entry.numbered(1, in: Self.room.value)
    speaker.events.publish([.entry(entry, origin: nil), .signal(typing), .access(change)])
    await hearer.until { !$0.changes.isEmpty && !$0.entryIDs.isEmpty }
    // Replay to a node that received the frames; again after it has left the channel and followed it again; and to a
    // node that starts after the sender has stopped.
    try redis.replay()
    hearer.fanout.unfollow([Self.room])
    hearer.fanout.follow([Self.room])
    await hearer.fanout.following([Self.room])
    try redis.replay()
    await speaker.fanout.stop()
    let later = try await node()
    later.fanout.follow([Self.room])
    await later.fanout.following([Self.room])
    try redis.replay()
    // Redis keeps the order. So once a later event has been received, all replayed frames have been handled.
    let friend = try await node()
    await later.hears(2)
    await hearer.hears(3)
    await Self.say(2, from: friend, to: later)
    await Self.say(3, from: friend, to: hearer)
    #expect(hearer.all.signals == [typing] && hearer.all.changes == [change])
    #expect(hearer.all.entryIDs.count { $0 == entry.id } == 1)
    #expect(later.all.signals.isEmpty && later.all.changes.isEmpty)
    #expect(!later.all.entryIDs.contains(entry.id))
    for node in [hearer, later, friend] { await node.fanout.stop() }
  }

  /// Publishes a text with `redis-cli`, a client that is not part of this project.
  private static func publish(_ text: String, in channel: String, _ redis: TestRedis) throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["redis-cli", "-p", "\(redis.port)", "PUBLISH", channel, text]
    process.standardOutput = Pipe()
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
  }
}
