import Access
import Basics
import Database
import Events
import TestSupport
import Testing

@testable import Chat

/// The present state of messages, as the commits of edits, deletions and reactions keep it.
@Suite(.timeLimit(.minutes(5))) struct MessageChangesTests {
  private func with(
    _ kind: DatabaseKind, in room: RoomKind = .group,
    _ body: (ChatWorld, Room) async throws -> Void
  ) async throws {
    try await TestDatabase.with(
      kind, ChatWorld.migrations, derived: SearchIndexFile.migrations
    ) {
      let world = ChatWorld($0, index: $1)
      try await body(world, try await world.room(room))
    }
  }

  private static let people = (1...4).map { UserID(UUID(high: 1, low: $0)) }

  private func draft(
    _ body: EntryBody, in room: Room, by user: UserID, clientID: String? = nil,
    isManager: Bool = false
  ) -> Draft {
    Draft(
      roomID: room.id, channelID: room.channelID, from: user, body: body, clientID: clientID,
      access: .granted(Draft.Grant(accessVersion: room.accessVersion, isManager: isManager)))
  }

  private func append(_ world: ChatWorld, _ drafts: [Draft]) async throws -> [String] {
    words(try await world.append(drafts))
  }

  private func words(_ outcomes: [LogAppender.Outcome]) -> [String] {
    outcomes.map { outcome in
      switch outcome {
      case .entered(let entry): "entered \(entry.seq)"
      case .refused(.known(let entry)): "known \(entry.seq)"
      case .refused(.denied(let code)): code.wire
      case .refused(let reason): "\(reason)"
      }
    }
  }

  private func text(_ data: String, _ extras: MessageExtras? = nil) -> EntryBody {
    .message(MessageContent(type: .text, data: data, extras: extras))
  }

  // MARK: Decisions

  @Test(arguments: DatabaseKind.allCases)
  func `who may change what, and what changes nothing`(kind: DatabaseKind) async throws {
    try await with(kind) { world, room in
      let (ada, bob) = (Self.people[0], Self.people[1])
      let thumb = "\u{1F44D}"
      let drafts: [(draft: Draft, outcome: String)] = [
        (draft(text("one"), in: room, by: ada), "entered 1"),
        (
          Draft(
            roomID: room.id, channelID: room.channelID, from: ada,
            body: .event(RoomEvent(.renamed, name: "n")), access: .decided), "entered 2"
        ),
      ]
      var outcomes = try await append(world, drafts.map(\.draft))
      #expect(outcomes == drafts.map(\.outcome))
      // All in one commit: each decision sees what those before it did.
      let changes: [(draft: Draft, outcome: String)] = [
        (draft(.edit(of: 1, data: "two", mentions: nil), in: room, by: bob), "forbidden"),
        (draft(.edit(of: 1, data: "one", mentions: nil), in: room, by: ada), "known 1"),
        (draft(.edit(of: 1, data: "two", mentions: nil), in: room, by: ada), "entered 3"),
        (draft(.edit(of: 1, data: "two", mentions: []), in: room, by: ada), "known 3"),
        (draft(.edit(of: 1, data: "two", mentions: [bob]), in: room, by: ada), "entered 4"),
        (draft(.edit(of: 2, data: "x", mentions: nil), in: room, by: ada), "validation_failed"),
        (draft(.edit(of: 3, data: "x", mentions: nil), in: room, by: ada), "message_not_found"),
        (draft(.edit(of: 99, data: "x", mentions: nil), in: room, by: ada), "message_not_found"),
        (draft(.reaction(to: 1, emoji: thumb, isRemoved: true), in: room, by: bob), "known 4"),
        (draft(.reaction(to: 1, emoji: thumb, isRemoved: false), in: room, by: bob), "entered 5"),
        (draft(.reaction(to: 1, emoji: thumb, isRemoved: false), in: room, by: bob), "known 5"),
        (draft(.reaction(to: 1, emoji: thumb, isRemoved: false), in: room, by: ada), "entered 6"),
        (
          draft(.reaction(to: 2, emoji: thumb, isRemoved: false), in: room, by: ada),
          "validation_failed"
        ),
        (draft(text("answer", .make(replyTo: 1)), in: room, by: bob), "entered 7"),
        (draft(text("answer", .make(replyTo: 2)), in: room, by: bob), "validation_failed"),
        (draft(text("answer", .make(replyTo: 99)), in: room, by: bob), "validation_failed"),
        (draft(.deletion(of: 1), in: room, by: bob), "forbidden"),
        (draft(.deletion(of: 2), in: room, by: bob, isManager: true), "validation_failed"),
        (draft(.deletion(of: 1), in: room, by: bob, isManager: true), "entered 8"),
        (draft(.deletion(of: 1), in: room, by: ada), "known 8"),
        (draft(.edit(of: 1, data: "three", mentions: nil), in: room, by: ada), "message_deleted"),
        (
          draft(.reaction(to: 1, emoji: thumb, isRemoved: true), in: room, by: bob),
          "message_deleted"
        ),
        (draft(text("answer", .make(replyTo: 1)), in: room, by: bob), "message_deleted"),
        (draft(.deletion(of: 7), in: room, by: bob), "entered 9"),
      ]
      outcomes = try await append(world, changes.map(\.draft))
      #expect(outcomes == changes.map(\.outcome))
      outcomes = try await append(world, [draft(.deletion(of: 7), in: room, by: bob)])
      #expect(outcomes == ["known 9"])
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `a retry of a change is known, whatever happened since`(kind: DatabaseKind) async throws {
    try await with(kind) { world, room in
      let ada = Self.people[0]
      _ = try await world.append([draft(text("one"), in: room, by: ada)])
      let drafts = [
        draft(.edit(of: 1, data: "two", mentions: nil), in: room, by: ada, clientID: "a"),
        draft(
          .reaction(to: 1, emoji: "\u{1F44D}", isRemoved: false), in: room, by: ada, clientID: "b"),
        draft(text("answer", .make(replyTo: 1)), in: room, by: ada, clientID: "c"),
        draft(.deletion(of: 1), in: room, by: ada, clientID: "d"),
      ]
      #expect(try await append(world, drafts) == (2...5).map { "entered \($0)" })
      #expect(try await append(world, drafts) == (2...5).map { "known \($0)" })
      // The group commit looks up only some drafts. These are always among them.
      for draft in drafts {
        let outcome = try await world.submit([
          Draft(
            roomID: room.id, channelID: room.channelID, from: ada, body: draft.body,
            clientID: draft.clientID, access: draft.access,
            origin: Origin(node: NodeID(1), loop: 0, socket: 1))
        ])
        guard case .receipt(let receipt)? = outcome.first, case .known = receipt.outcome else {
          Issue.record("\(outcome)")
          return
        }
      }
      let others = [
        draft(.edit(of: 1, data: "other", mentions: nil), in: room, by: ada, clientID: "a"),
        draft(.edit(of: 1, data: "two", mentions: []), in: room, by: ada, clientID: "a"),
        draft(
          .reaction(to: 1, emoji: "\u{1F44D}", isRemoved: true), in: room, by: ada, clientID: "b"),
        draft(text("answer"), in: room, by: ada, clientID: "c"),
        draft(.deletion(of: 2), in: room, by: ada, clientID: "d"),
      ]
      #expect(try await append(world, others).allSatisfy { $0 == "conflict" })
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `a message holds fifty different emoji`(kind: DatabaseKind) async throws {
    try await with(kind) { world, room in
      let ada = Self.people[0]
      let emoji = (0..<51).compactMap { Unicode.Scalar(0x1F600 + $0).map { String($0) } }
      _ = try await world.append([draft(text("one"), in: room, by: ada)])
      func react(_ emoji: String, isRemoved: Bool = false, by user: UserID) -> Draft {
        draft(.reaction(to: 1, emoji: emoji, isRemoved: isRemoved), in: room, by: user)
      }
      _ = try await world.append(emoji.prefix(30).map { react($0, by: ada) })
      _ = try await world.append(emoji.dropFirst(30).prefix(20).map { react($0, by: ada) })
      let outcomes = try await world.append([
        react(emoji[50], by: ada), react(emoji[0], by: Self.people[1]),
        react(emoji[0], isRemoved: true, by: ada), react(emoji[50], by: ada),
        react(emoji[0], isRemoved: true, by: Self.people[1]), react(emoji[50], by: ada),
      ])
      #expect(
        words(outcomes) == [
          "too_many_reactions", "entered 52", "entered 53", "too_many_reactions", "entered 54",
          "entered 55",
        ])
      let page = try await world.history.messages(in: room.id, as: world.owner, .latest(1))
      // By first use: the one that came last is at the end.
      #expect(page.messages[0].reactions.map(\.emoji) == Array(emoji[1...]))
    }
  }

  // MARK: The fold of the log

  /// What a reader of all entries would know about a message.
  private struct Folded: Equatable {
    var body: EntryBody
    var isEdited = false
    var updatedSeq: Int64
    var editSeq: Int64?
    var texts: [String] = []
    /// The emoji in the order in which they came, each with its people.
    var reactions: [(emoji: String, people: Set<UserID>)] = []

    static func == (left: Self, right: Self) -> Bool {
      left.body == right.body && left.updatedSeq == right.updatedSeq
        && left.reactions.map(\.emoji) == right.reactions.map(\.emoji)
        && left.reactions.map(\.people.count) == right.reactions.map(\.people.count)
    }
  }

  private func fold(_ entries: [Entry]) -> [Int64: Folded] {
    var messages: [Int64: Folded] = [:]
    for entry in entries {
      switch entry.body {
      case .message: messages[entry.seq] = Folded(body: entry.body, updatedSeq: entry.seq)
      case .edit(let of, let data?, let mentions?):
        guard var message = messages[of], case .message(let old) = message.body else { continue }
        message.texts.append(old.data)
        message.body = text(
          data, .make(replyTo: old.extras?.replyTo, mentions: mentions, isEdited: true))
        (message.updatedSeq, message.editSeq) = (entry.seq, entry.seq)
        messages[of] = message
      case .deletion(let of):
        messages[of]?.body = .erased(.text)
        messages[of]?.reactions = []
        messages[of]?.updatedSeq = entry.seq
      case .reaction(let to, let emoji, let isRemoved):
        guard var message = messages[to], let user = entry.from else { continue }
        var index = message.reactions.firstIndex { $0.emoji == emoji }
        if index == nil {
          message.reactions.append((emoji, []))
          index = message.reactions.count - 1
        }
        if let index {
          if isRemoved {
            message.reactions[index].people.remove(user)
          } else {
            message.reactions[index].people.insert(user)
          }
          if message.reactions[index].people.isEmpty { message.reactions.remove(at: index) }
        }
        message.updatedSeq = entry.seq
        messages[to] = message
      default: Issue.record("\(entry.body)")
      }
    }
    return messages
  }

  /// Every third seed in a secret room, where nothing of earlier texts may be left.
  @Test(arguments: DatabaseKind.allCases, 1...6)
  func `the present state is the fold of the log`(kind: DatabaseKind, seed: UInt64) async throws {
    try await with(kind, in: seed % 3 == 0 ? .secret : .group) { world, room in
      var random = SeededRandom(seed: seed)
      var entries: [Entry] = []
      let emoji = ["\u{1F44D}", "\u{2764}\u{FE0F}", "\u{1F389}"]
      for _ in 0..<30 {
        let drafts = (0..<Int.random(in: 1...25, using: &random)).map { _ -> Draft in
          let target = Int64.random(in: 1...Int64(entries.count + 2), using: &random)
          let user = Self.people[Int.random(in: 0..<4, using: &random)]
          let mentions = Self.people.filter { _ in Bool.random(using: &random) }
          let body: EntryBody =
            switch Int.random(in: 0..<10, using: &random) {
            case 0...2:
              text(
                "\(random.next())",
                .make(replyTo: Bool.random(using: &random) ? target : nil, mentions: mentions))
            case 3...5:
              .edit(
                of: target, data: "\(Int.random(in: 0..<3, using: &random))",
                mentions: Bool.random(using: &random) ? mentions : nil)
            case 6: .deletion(of: target)
            default:
              .reaction(
                to: target, emoji: emoji[Int.random(in: 0..<3, using: &random)],
                isRemoved: Int.random(in: 0..<3, using: &random) == 0)
            }
          return draft(body, in: room, by: user, isManager: Bool.random(using: &random))
        }
        for case .entered(let entry) in try await world.append(drafts) { entries.append(entry) }
        // The search index follows at some moments, and finds the rest later.
        if Bool.random(using: &random) { try await index(world) }
      }
      #expect(entries.map(\.seq) == Array(1...Int64(entries.count)))
      try await compare(entries, world, room)
      try await compareIndex(entries, world, room)
    }
  }

  private func index(_ world: ChatWorld) async throws {
    try await world.indexer.load()
    try await world.indexer.follow { _ in }
  }

  /// Compares what the search finds with the fold of the log.
  private func compareIndex(_ entries: [Entry], _ world: ChatWorld, _ room: Room) async throws {
    try await index(world)
    let indexed = try await world.index.read { transaction in
      try await transaction.query("SELECT seq, text_seq FROM search_documents", []).map {
        "\(try $0.integer(0)) \(try $0.integer(1))"
      }
    }
    let present = fold(entries).filter { $0.value.body != .erased(.text) }
    let expected = present.map { "\($0) \($1.editSeq ?? $0)" }
    #expect(Set(indexed) == (room.kind == .secret ? [] : Set(expected)))
    let counts = try await world.database.read { transaction in
      let row = try await transaction.first(
        """
        SELECT (SELECT count(*) FROM message_keys), (SELECT count(*) FROM contents),
          (SELECT count(*) FROM earlier_texts)
        """, [])
      return try (0..<3).map { try row?.integer($0) ?? 0 }
    }
    #expect(counts[1] == Int64(present.count))
    if room.kind == .secret {
      #expect(counts[0] == Int64(present.count) && counts[2] == 0)
    } else {
      #expect(counts[0] == 0)
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `messages of secret rooms end by themselves, once`(kind: DatabaseKind) async throws {
    try await with(kind) { world, _ in
      let (short, long) = (
        try await world.room(.secret, ttlSeconds: 5),
        try await world.room(.secret, ttlSeconds: 5000)
      )
      let now = Timestamp.now
      for room in [short, long] {
        _ = try await world.append([
          draft(text("one"), in: room, by: Self.people[0]),
          draft(text("two"), in: room, by: Self.people[0]),
          draft(.deletion(of: 2), in: room, by: Self.people[0]),
        ])
      }
      try await world.expiry.destroyExpired(at: now)
      let soon = Timestamp(milliseconds: now.milliseconds + 60_000)
      try await world.expiry.destroyExpired(at: soon)
      try await world.expiry.destroyExpired(at: soon)
      let entries = try await world.reader.entries(in: short, after: 0, through: 9)
      #expect(
        entries.map(\.body) == [
          .erased(.text), .erased(.text), .deletion(of: 2), .deletion(of: 1),
        ])
      #expect(entries.last?.from == nil)
      let others = try await world.reader.entries(in: long, after: 0, through: 9)
      #expect(others.map(\.body) == [text("one"), .erased(.text), .deletion(of: 2)])
    }
  }

  /// Compares what all readers find with the fold of these entries, which are the whole log.
  private func compare(_ entries: [Entry], _ world: ChatWorld, _ room: Room) async throws {
    let folded = fold(entries)
    var selection = MessageHistory.Selection.latest(200)
    selection.isAscending = true
    var seen: [Int64: MessageView] = [:]
    var hasMore = true
    while hasMore {
      let page = try await world.history.messages(in: room.id, as: world.owner, selection)
      for message in page.messages { seen[message.entry.seq] = message }
      selection.after = page.messages.last?.entry.seq
      hasMore = page.hasMore
    }
    #expect(Set(seen.keys) == Set(folded.keys))
    for (seq, message) in folded {
      let found = try #require(seen[seq])
      #expect(found.entry.body == message.body)
      #expect(found.updatedSeq == message.updatedSeq)
      #expect(found.reactions.map(\.emoji) == message.reactions.map(\.emoji))
      #expect(found.reactions.map(\.people) == message.reactions.map { Int64($0.people.count) })
      #expect(
        found.reactions.map(\.isMine)
          == message.reactions.map { $0.people.contains(world.owner.userID) })
      let reactions = try await world.history.reactions(
        to: seq, in: room.id, as: world.owner, after: 0, limit: 1000)
      #expect(
        Dictionary(grouping: reactions, by: \.emoji).mapValues { Set($0.map(\.userID)) }
          == Dictionary(uniqueKeysWithValues: message.reactions.map { ($0.emoji, $0.people) }))
      let texts = try await world.history.earlierTexts(
        of: seq, in: room.id, as: world.owner, after: 0, limit: 1000)
      let keepsTexts = message.body != .erased(.text) && room.kind != .secret
      #expect(texts.map(\.data) == (keepsTexts ? message.texts : []))
    }
    // Replays show the present state, too, and an edit its text only while the message has it.
    var replayed: [Entry] = []
    while replayed.count < entries.count {
      replayed += try await world.reader.entries(
        in: room, after: Int64(replayed.count), through: Int64(entries.count))
    }
    for (entry, found) in zip(entries, replayed) {
      switch entry.body {
      case .message: #expect(found.body == folded[entry.seq]?.body)
      case .edit(let of, _, _):
        let message = try #require(folded[of])
        let isPresent = message.editSeq == entry.seq && message.body != .erased(.text)
        #expect(found.body == (isPresent ? entry.body : .edit(of: of, data: nil, mentions: nil)))
      default: #expect(found.body == entry.body)
      }
      #expect(found.id == entry.id && found.ordinal == entry.ordinal)
    }
    let mentions = try await world.database.read { transaction in
      try await transaction.query("SELECT user_id, seq FROM mentions", []).map {
        "\(UserID(try $0.uuid(0))) \(try $0.integer(1))"
      }
    }
    let expected = folded.flatMap { seq, message -> [String] in
      guard case .message(let content) = message.body else { return [] }
      return (content.extras?.mentions ?? []).map { "\($0) \(seq)" }
    }
    #expect(Set(mentions) == Set(expected) && mentions.count == expected.count)
  }
}
