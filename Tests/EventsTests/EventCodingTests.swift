import Access
import Basics
import TestSupport
import Testing

@testable import Events

@Suite struct EventCodingTests {
  private static let bodies: [EntryBody] = [
    .message(MessageContent(type: .text, data: "hello \u{1F426} \u{0}")),
    .message(MessageContent(type: .file, data: "")),
    .message(MessageContent(type: .text, data: "an answer", extras: .make(replyTo: 4))),
    .message(
      MessageContent(
        type: .text, data: "copied",
        extras: .make(
          mentions: [.make(), .make()],
          forward: Forward(message: .make(), from: .make(), room: RoomID(3), seq: 9)))),
    .message(
      MessageContent(
        type: .text, data: "copied from nobody, and edited",
        extras: .make(
          replyTo: 1, forward: Forward(message: .make(), from: nil, room: RoomID(3), seq: 9),
          isEdited: true))),
    .edit(of: 3, data: "new", mentions: []), .edit(of: 3, data: "new", mentions: [.make()]),
    .edit(of: 3, data: nil, mentions: nil), .deletion(of: .max),
    .reaction(to: 1, emoji: "\u{1F44D}", isRemoved: true),
    .event(RoomEvent(.renamed, subject: nil, name: "name")),
    .event(RoomEvent(.joined, subject: UserID(UUID(high: 1, low: 2)))), .erased(.image),
    .unknown(code: 77),
  ]

  private static func entry(
    _ body: EntryBody, from: UserID? = .make(), to: UserID? = nil, clientID: String? = nil
  ) -> Entry {
    Entry(
      roomID: RoomID(7), seq: 9, id: .make(), from: from, to: to, channelID: "7", ts: .now,
      clientID: clientID, ordinal: 4, body: body)
  }

  private static let changes: [AccessChange] = [
    .sessionEnded(SessionID(UUID(high: 3, low: 4))),
    .affiliationsChanged(UserID(UUID(high: 5, low: 6)), version: 12),
    .roomChanged(RoomID(8), version: .max),
    .invited(RoomID(8), subject: UUID(high: 7, low: 8), version: 3),
    .roomDeleted(RoomID(.max), version: 1),
  ]

  private func same(_ left: Entry, _ right: Entry) -> Bool {
    left.roomID == right.roomID && left.seq == right.seq && left.id == right.id
      && left.from == right.from && left.to == right.to && left.channelID == right.channelID
      && left.ts == right.ts
      && left.clientID == right.clientID && left.ordinal == right.ordinal
      && left.body == right.body
  }

  @Test func `what is written is read, in its order`() throws {
    let entries =
      Self.bodies.map { Self.entry($0) }
      + [
        Self.entry(Self.bodies[0], from: nil), Self.entry(Self.bodies[0], clientID: "c"),
        Self.entry(Self.bodies[0], to: .make()),
      ]
    let events: [Event] =
      entries.map { .entry($0, origin: Origin(node: NodeID(1), loop: 2, socket: 3)) }
      + Self.changes.map { .access($0) }
      // These stay on their node.
      + [.compared(at: 1), .epochChanged("e")]
    let read = try #require(EventCoding.decode(EventCoding.encode(events)[...]))
    #expect(read.count == entries.count + Self.changes.count)
    for (event, entry) in zip(read, entries) {
      guard case .entry(let found, nil) = event else {
        Issue.record("\(event)")
        return
      }
      #expect(same(found, entry))
    }
    for (event, change) in zip(read.dropFirst(entries.count), Self.changes) {
      guard case .access(let found) = event else {
        Issue.record("\(event)")
        return
      }
      #expect(found == change)
    }
  }

  @Test func `kinds of a newer node are skipped, its bodies move the seq on`() throws {
    let known = EventCoding.encode([.access(Self.changes[0])])
    let newer: [UInt8] = [200, 0, 0, 0, 3, 1, 2, 3]
    let read = try #require(EventCoding.decode((newer + known + newer)[...]))
    #expect(read.count == 1)
    // The kind of the body comes after the envelope. Here it is a deletion, whose content has eight bytes. It is
    // followed by one byte, which says that the entry has no `to`.
    var bytes = EventCoding.encode([.entry(Self.entry(.deletion(of: 5)), origin: nil)])
    let position = bytes.count - 1 - 8 - 4 - 1
    #expect(bytes[position] == 3)
    bytes[position] = 99
    guard case .entry(let entry, _)? = EventCoding.decode(bytes[...])?.first else {
      Issue.record("not read")
      return
    }
    #expect(entry.seq == 9)
    #expect(entry.body == .unknown(code: 99))
  }

  @Test func `an entry of an older node, without a recipient, is read`() throws {
    let entry = Self.entry(.deletion(of: 5))
    var bytes = EventCoding.encode([.entry(entry, origin: nil)])
    // The content is one byte shorter there. Its length is in the four bytes behind the kind.
    bytes.removeLast()
    bytes[4] -= 1
    guard case .entry(let found, _)? = EventCoding.decode(bytes[...])?.first else {
      Issue.record("not read")
      return
    }
    #expect(same(found, entry))
  }

  @Test func `an edit of an older node, without mentions, is read`() throws {
    var bytes = EventCoding.encode(
      [.entry(Self.entry(.edit(of: 3, data: "new", mentions: [])), origin: nil)])
    // There is no `to`, and the last field of the edit is the empty list of mentions. Without it the event and the body
    // are four bytes shorter.
    bytes.removeSubrange((bytes.count - 5)..<(bytes.count - 1))
    bytes[4] -= 4
    let lengthOfBody = bytes.count - 1 - (8 + 1 + 4 + 3) - 1
    #expect(bytes[lengthOfBody] == 20)
    bytes[lengthOfBody] -= 4
    guard case .entry(let entry, _)? = EventCoding.decode(bytes[...])?.first else {
      Issue.record("not read")
      return
    }
    #expect(entry.body == .edit(of: 3, data: "new", mentions: []))
  }

  @Test(arguments: 1...20)
  func `what is cut or changed on the way is refused or read, and traps nobody`(seed: UInt64) {
    var random = SeededRandom(seed: seed)
    let events: [Event] =
      Self.bodies.map { .entry(Self.entry($0, clientID: "c"), origin: nil) }
      + Self.changes.map { .access($0) }
    let whole = EventCoding.encode(events)
    for end in 0..<whole.count { _ = EventCoding.decode(whole[..<end]) }
    var refused = 0
    for _ in 0..<2000 {
      var bytes = whole
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] = .random(
          in: 0...255, using: &random)
      }
      if EventCoding.decode(bytes[...]) == nil { refused += 1 }
    }
    #expect(refused > 0)
  }
}
