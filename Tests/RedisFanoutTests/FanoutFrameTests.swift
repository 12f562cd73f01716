import Basics
import Crypto
import Events
import Testing

@testable import RedisFanout

@Suite struct FanoutFrameTests {
  private static let frames = [
    FanoutFrame(node: NodeID(7), counter: 3, content: .events([1, 2, 3])),
    FanoutFrame(node: NodeID(.max), counter: .max, content: .events([])),
    FanoutFrame(
      node: NodeID(7), counter: 4,
      content: .heartbeat(
        Heartbeat(
          challenge: 5, answers: [NodeID(1): 2, NodeID(3): 4],
          counters: [Channel(Shard(index: 0)): 1, Channel(Shard(index: 255)): .max]))),
  ]

  @Test(arguments: frames)
  func `what was sealed is read, in its channel, with its key`(_ frame: FanoutFrame) throws {
    let bytes = frame.bytes(in: "e:1", TestNode.key)
    #expect(FanoutFrame(bytes, in: "e:1", TestNode.key) == frame)
    #expect(FanoutFrame.claimedNode(bytes) == frame.node)
    #expect(FanoutFrame(bytes, in: "e:2", TestNode.key) == nil)
    let other = try #require(SealingKey([UInt8](repeating: 8, count: 32)))
    #expect(FanoutFrame(bytes, in: "e:1", other) == nil)
    // The content cannot be read in the frame's bytes. A frame with a changed byte, or a truncated frame, is refused.
    #expect(!String(decoding: bytes, as: UTF8.self).contains("\u{1}\u{2}\u{3}"))
    for index in bytes.indices {
      var changed = bytes
      changed[index] ^= 1
      #expect(FanoutFrame(changed, in: "e:1", TestNode.key) == nil)
      #expect(FanoutFrame(Array(bytes[..<index]), in: "e:1", TestNode.key) == nil)
    }
  }

  @Test func `a kind of a newer release is counted, and says nothing`() {
    let head: [UInt8] = [1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9]
    let sealed = TestNode.key.seal([200, 1, 2], authenticating: head + Array("e:1".utf8))
    let frame = FanoutFrame(head + sealed, in: "e:1", TestNode.key)
    #expect(frame == FanoutFrame(node: NodeID(7), counter: 9, content: .unknown))
  }

  @Test func `a heartbeat of a newer release may say more`() {
    let heartbeat = Heartbeat(challenge: 1, answers: [:], counters: [.all: 2])
    #expect(Heartbeat((heartbeat.bytes + [1, 2, 3])[...]) == heartbeat)
    var other = heartbeat.bytes
    // The index of a channel that does not exist.
    other[13] = 9
    #expect(Heartbeat(other[...])?.counters == [:])
  }
}
