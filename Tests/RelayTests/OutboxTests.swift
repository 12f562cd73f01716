import Basics
import Events
import Testing

@testable import Relay

@Suite struct OutboxTests {
  /// A box around the value, because `#expect` cannot call mutating functions on a value.
  private final class Held {
    var outbox = Outbox()
    func decide(_ draft: Draft) -> Outbox.Decision { outbox.decide(draft) }
    func settled(_ room: RoomID, stale: Draft?) -> Bool { outbox.settled(room, stale: stale) }
    func drainForRecheck(_ room: RoomID) -> [Draft] { outbox.drainForRecheck(room).drafts }
  }

  private func draft(_ data: String, version: Int64 = 1, affiliations: Int64? = nil) -> Draft {
    Draft(
      roomID: RoomID(1), channelID: "1", from: .make(),
      body: .message(MessageContent(type: .text, data: data)),
      access: .granted(
        Draft.Grant(accessVersion: version, affiliationsVersion: affiliations)),
      origin: Origin(node: NodeID(1), loop: 0, socket: 1))
  }

  private func text(_ draft: Draft) -> String {
    if case .message(let content) = draft.body { content.data } else { "" }
  }

  @Test func `what follows a stale message waits for it`() {
    let outbox = Held()
    #expect(outbox.decide(draft("a", version: 1)) == .send)
    #expect(outbox.decide(draft("b", version: 1)) == .send)
    // Access has changed. These drafts were checked under the new version, and would overtake the earlier ones.
    #expect(outbox.decide(draft("c", version: 2)) == .hold)
    #expect(!outbox.settled(RoomID(1), stale: draft("a")))
    #expect(outbox.decide(draft("d", version: 2)) == .hold)
    #expect(outbox.settled(RoomID(1), stale: draft("b")))
    // While the room is being read.
    #expect(outbox.decide(draft("e", version: 2)) == .hold)
    #expect(outbox.drainForRecheck(RoomID(1)).map(text) == ["a", "b", "c", "d", "e"])
    #expect(outbox.decide(draft("a", version: 2)) == .send)
  }

  @Test func `a change that made nothing stale lets the held ones go`() {
    let outbox = Held()
    #expect(outbox.decide(draft("a", version: 1)) == .send)
    #expect(outbox.decide(draft("b", version: 2)) == .hold)
    #expect(outbox.settled(RoomID(1), stale: nil))
    #expect(outbox.drainForRecheck(RoomID(1)).map(text) == ["b"])
  }

  @Test func `what rests on another membership waits as well`() {
    let outbox = Held()
    #expect(outbox.decide(draft("a", affiliations: 1)) == .send)
    #expect(outbox.decide(draft("b", affiliations: 2)) == .hold)
    #expect(outbox.settled(RoomID(1), stale: draft("a", affiliations: 1)))
    #expect(outbox.drainForRecheck(RoomID(1)).map(text) == ["a", "b"])
  }

  @Test func `what is stale again and again is given up`() {
    let outbox = Held()
    for round in 1...40 {
      #expect(outbox.decide(draft("a")) == .send)
      #expect(outbox.settled(RoomID(1), stale: draft("a")))
      #expect(outbox.outbox.drainForRecheck(RoomID(1)).isHopeless == (round % 17 == 0))
    }
    // A message that is accepted restarts the count.
    for _ in 1...40 {
      #expect(outbox.decide(draft("a")) == .send)
      #expect(outbox.settled(RoomID(1), stale: draft("a")))
      #expect(!outbox.outbox.drainForRecheck(RoomID(1)).isHopeless)
      #expect(outbox.decide(draft("b")) == .send)
      #expect(!outbox.settled(RoomID(1), stale: nil))
    }
  }

  @Test func `without changes nothing waits and nothing is kept`() {
    let outbox = Held()
    for _ in 0..<100 { #expect(outbox.decide(draft("x", version: 1)) == .send) }
    for _ in 0..<100 { #expect(!outbox.settled(RoomID(1), stale: nil)) }
    #expect(outbox.drainForRecheck(RoomID(1)).isEmpty)
    #expect(outbox.decide(draft("y", version: 2)) == .send)
  }

  @Test func `too many that wait are refused`() {
    let outbox = Held()
    #expect(outbox.decide(draft("a", version: 1)) == .send)
    let held = (0..<300).filter { _ in outbox.decide(draft("x", version: 2)) == .hold }
    #expect(held.count == 256)
    // Large messages are refused sooner.
    #expect(outbox.drainForRecheck(RoomID(1)).count == 256)
    #expect(outbox.decide(draft("a", version: 1)) == .send)
    let large = String(repeating: "x", count: 64 * 1024)
    let heldLarge = (0..<100).filter { _ in outbox.decide(draft(large, version: 2)) == .hold }
    #expect(heldLarge.count == 64)
  }
}
