import Access
import Basics
import Chat
import Events
import TestSupport
import Testing

@testable import Relay

/// A room's log, its feed and its subscribers, driven in random order by a seeded generator. Each subscriber records
/// what it was told, and the promises to it are checked against that.
@Suite struct RoomFeedTests {
  private static let people = (1...4).map { UUID(high: 9, low: UInt64($0)) }

  private static func room(version: Int64, readers: Set<Int>) -> Room {
    Room(
      id: RoomID(1),
      Room.Properties(
        name: "r", levelAdmin: 9, ownerUser: UserID(UUID(high: 1, low: 1)),
        createdAt: Timestamp(milliseconds: 0)),
      rules: readers.sorted().map {
        RoomRule(subject: people[$0], permissions: .read, level: 0, isAccepted: true)
      }, accessVersion: version)
  }

  private static func entry(_ seq: Int64) -> Entry {
    Entry(
      roomID: RoomID(1), seq: seq, id: MessageID(UUID(high: 5, low: UInt64(seq))),
      from: UserID(people[0]), channelID: "1", ts: Timestamp(milliseconds: seq), clientID: nil,
      ordinal: seq, body: .message(MessageContent(type: .text, data: "\(seq)")))
  }

  /// What one subscriber knows.
  private struct Seen {
    /// Whether it is in the topic and receives what is published.
    var isLive = false
    /// The highest seq that it received or was promised; nil if it was told none.
    var cursor: Int64?
    /// Its requests that were not answered yet, in order. Nil stands for `unsubscribe`.
    var asks: [RoomFeed.Purpose?] = []
    /// Whether its `resume` was answered with `resumed`, while the replay is not over yet.
    var hasResumed = false
  }

  private struct World {
    var random: SeededRandom
    var feed = RoomFeed()
    var head: Int64 = 0
    var version: Int64 = 1
    var readers: Set<Int> = [0, 1, 2]
    var isDeleted = false
    var seen = Array(repeating: Seen(), count: people.count)
    /// Committed entries on their way to this loop. Some are lost, some arrive out of order.
    var inFlight: [Entry] = []
    /// Reads that the feed asked for and that have not finished.
    var reads: [Read] = []
    /// Replays whose subscriber has not taken the last piece yet.
    var untaken: [(id: UInt64, number: Int)] = []
    var isTimerArmed = false
    /// The `asOf` of the read of the head that is under way; nil if none is.
    var headAskedAsOf: Int64?
    var isLoadAsked = true
    var failures: [String] = []

    struct Read {
      /// Nil if the read fills a gap.
      let replay: (id: UInt64, number: Int)?
      let after: Int64
      let through: Int64
    }

    mutating func pick(_ count: Int) -> Int { Int(random.next() % UInt64(count)) }

    mutating func feed(_ input: RoomFeed.Input) {
      if case .entry(let entry) = input, feed.deliverNext(entry) {
        perform(.publish(entry))
        return
      }
      for output in feed.handle(input) { perform(output) }
    }

    mutating func perform(_ output: RoomFeed.Output) {
      switch output {
      case .begin: failures.append("the room is no dialog")
      case .admit(let id, let purpose, let seq):
        answered(Int(id), purpose)
        begin(Int(id), at: seq)
      case .reset(let id, let seq):
        // May also come after `resumed`, if later entries could not be read.
        if !seen[Int(id)].hasResumed { answeredResume(Int(id)) }
        begin(Int(id), at: seq)
      case .refuse(let id, let purpose, _):
        if case .some(nil) = seen[Int(id)].asks.first {
          // A stranger's `unsubscribe` gets the same refusal, so that it reveals nothing.
          seen[Int(id)].asks.removeFirst()
        } else {
          answered(Int(id), purpose)
        }
        leave(Int(id))
      case .left(let id, _, _):
        let person = Int(id)
        // It may end a replay. Earlier requests to enter the room are then not answered.
        while let ask = seen[person].asks.first, ask != nil { seen[person].asks.removeFirst() }
        if seen[person].asks.isEmpty {
          failures.append("unsubscribed unasked")
        } else {
          seen[person].asks.removeFirst()
        }
        leave(person)
      case .revoke(let id, _):
        // It also answers a resume that is under way.
        let person = Int(id)
        if replaysSeen.contains(person), !seen[person].hasResumed { answeredResume(person) }
        leave(person)
      case .publish(let entry):
        for person in seen.indices where seen[person].isLive { receive(person, entry) }
      case .readHead(let asOf): headAskedAsOf = asOf
      case .rewound: failures.append("rewound, though the log only grew")
      case .waitForGap: isTimerArmed = true
      case .readGap(let after, let through):
        reads.append(Read(replay: nil, after: after, through: through))
      case .readReplay(let id, let number, let after, let through):
        seen[Int(id)].isLive = false
        if !isUnderWay(id, number) { startReplay(Int(id), at: after) }
        reads.append(Read(replay: (id, number), after: after, through: through))
      case .replay(let id, let entries):
        if seen[Int(id)].isLive { failures.append("replay to one in the topic") }
        for entry in entries { receive(Int(id), entry) }
      case .resumed(let id, let seq):
        let person = Int(id)
        answeredResume(person)
        seen[person].hasResumed = true
        if !replaysSeen.contains(Int(id)) { seen[person].cursor = seq }
        if seen[person].cursor != seq {
          failures.append("resumed at \(seq) but has \(seen[person].cursor ?? -1)")
        }
      case .awaitRoom(let id, let number): untaken.append((id, number))
      case .join(let id):
        seen[Int(id)].isLive = true
        seen[Int(id)].hasResumed = false
        replaysSeen.remove(Int(id))
      }
    }

    /// The people whose replay is under way. Below it, the numbers of all replays that have begun.
    var replaysSeen: Set<Int> = []
    var numbers: Set<Int> = []

    mutating func isUnderWay(_ id: UInt64, _ number: Int) -> Bool {
      !numbers.insert(number).inserted
    }

    mutating func startReplay(_ person: Int, at after: Int64) {
      replaysSeen.insert(person)
      seen[person].hasResumed = false
      seen[person].cursor = after
    }

    mutating func leave(_ person: Int) {
      seen[person].isLive = false
      seen[person].cursor = nil
      seen[person].hasResumed = false
      replaysSeen.remove(person)
    }

    mutating func answered(_ person: Int, _ purpose: RoomFeed.Purpose) {
      guard let ask = seen[person].asks.first, ask == purpose else {
        failures.append("\(person) got an answer to \(purpose), asked \(seen[person].asks)")
        return
      }
      seen[person].asks.removeFirst()
    }

    mutating func answeredResume(_ person: Int) {
      guard case .resume?? = seen[person].asks.first else {
        failures.append("\(person) was resumed unasked")
        return
      }
      seen[person].asks.removeFirst()
    }

    mutating func begin(_ person: Int, at seq: Int64) {
      replaysSeen.remove(person)
      seen[person].hasResumed = false
      seen[person].cursor = seq
      seen[person].isLive = true
    }

    mutating func receive(_ person: Int, _ entry: Entry) {
      if !readers.contains(person) || isDeleted {
        // The change is committed, but this loop may not have been told about it yet.
        if feed.room?.accessVersion == version || isDeletionKnown {
          failures.append("\(person) heard without the right")
        }
      }
      if let cursor = seen[person].cursor, entry.seq != cursor + 1 {
        failures.append("\(person) got \(entry.seq) after \(cursor)")
      }
      seen[person].cursor = entry.seq
    }

    var isDeletionKnown: Bool { isDeleted && feed.room == nil }

    mutating func step() {
      switch pick(12) {
      case 0, 1, 2:
        guard !isDeleted else { return }
        head += 1
        inFlight.append(entry(head))
      case 3, 4:
        guard !inFlight.isEmpty else { return }
        // Usually the oldest entry arrives, sometimes another one. Some are lost.
        let index = pick(4) == 0 ? pick(inFlight.count) : 0
        let next = inFlight.remove(at: index)
        if pick(20) != 0 { feed(.entry(next)) }
      case 5:
        guard isLoadAsked else { return }
        isLoadAsked = false
        feed(.loaded(isDeleted ? nil : (room(version: version, readers: readers), head)))
      case 6, 7:
        let person = pick(people.count)
        let purpose: RoomFeed.Purpose =
          pick(2) == 0
          ? .resume(
            last: max(0, head + 1 - Int64(pick(9))), clientID: "\(pick(100))",
            budget: ReplayBudget())
          : .subscribe(clientID: "\(pick(100))")
        seen[person].asks.append(purpose)
        feed(.attach(UInt64(person), caller(person), purpose))
      case 8:
        let person = pick(people.count)
        if pick(2) == 0 {
          feed(.detach(UInt64(person)))
          seen[person] = Seen()
          leave(person)
        } else {
          seen[person].asks.append(nil)
          feed(.leave(UInt64(person), caller(person), clientID: nil))
        }
      case 9:
        guard !isDeleted else { return }
        version += 1
        let person = pick(people.count)
        if readers.remove(person) == nil { readers.insert(person) }
        if pick(3) != 0 { feed(.changed(room(version: version, readers: readers), concerns: nil)) }
      case 10:
        if isTimerArmed {
          isTimerArmed = false
          feed(.gapTimeout)
        } else {
          take()
        }
      default:
        if pick(2) == 0 {
          take()
        } else if !reads.isEmpty {
          finishRead()
        } else if pick(30) == 0, !isDeleted {
          delete()
        }
      }
    }

    /// Makes a subscriber take what it was sent.
    mutating func take() {
      guard !untaken.isEmpty else { return }
      let (id, number) = untaken.remove(at: pick(untaken.count))
      feed(.replayTaken(id, replay: number))
    }

    mutating func readHead() {
      guard let asOf = headAskedAsOf else { return }
      headAskedAsOf = nil
      feed(.headRead(pick(10) == 0 ? nil : head, asOf: asOf))
    }

    mutating func finishRead() {
      let read = reads.remove(at: pick(reads.count))
      let fails = pick(10) == 0
      // A read returns at least one entry, if there is one, and often not all of them.
      let through = min(read.through, head, read.after + 1 + Int64(pick(4)))
      let entries = read.after < through ? ((read.after + 1)...through).map(entry) : []
      if let (id, number) = read.replay {
        feed(.replayRead(id, replay: number, fails ? nil : entries))
      } else {
        feed(.gapRead(fails ? nil : entries))
      }
    }

    mutating func delete() {
      isDeleted = true
      feed(.changed(nil, concerns: nil))
    }

    func caller(_ person: Int) -> Caller {
      .foreign(people[person])
    }

    /// Lets everything in flight arrive, and finds lost entries by comparing heads.
    mutating func settle() {
      if isLoadAsked {
        isLoadAsked = false
        feed(.loaded(isDeleted ? nil : (room(version: version, readers: readers), head)))
      }
      if !isDeleted { feed(.changed(room(version: version, readers: readers), concerns: nil)) }
      for _ in 0..<50 {
        while !inFlight.isEmpty { feed(.entry(inFlight.removeFirst())) }
        if isTimerArmed {
          isTimerArmed = false
          feed(.gapTimeout)
        }
        while !reads.isEmpty || !untaken.isEmpty || headAskedAsOf != nil {
          readHead()
          take()
          if !reads.isEmpty { finishRead() }
        }
        feed(.head(head, asOf: feed.lastSeq ?? 0))
      }
    }
  }

  @Test(arguments: 1...400)
  func `every interleaving keeps the promises`(seed: UInt64) {
    var world = World(random: SeededRandom(seed: seed))
    for _ in 0..<200 { world.step() }
    world.settle()
    #expect(world.failures.isEmpty, "seed \(seed): \(world.failures)")
    for (person, seen) in world.seen.enumerated() {
      #expect(seen.asks.isEmpty, "seed \(seed): \(person) waits for \(seen.asks)")
      guard seen.isLive else { continue }
      #expect(
        world.readers.contains(person) && !world.isDeleted, "seed \(seed): \(person) still hears")
      #expect(
        seen.cursor == world.head,
        "seed \(seed): \(person) is at \(seen.cursor ?? -1) of \(world.head)")
    }
  }

  /// Returns the feed of a room with this many entries, which people 0 and 1 may read.
  private func liveFeed(_ head: Int64) -> RoomFeed {
    var feed = RoomFeed()
    _ = feed.handle(.loaded((Self.room(version: 1, readers: [0, 1]), head)))
    return feed
  }

  private func reader(_ person: Int) -> Caller {
    .foreign(Self.people[person])
  }

  private func words(_ outputs: [RoomFeed.Output]) -> [String] {
    outputs.map {
      switch $0 {
      case .admit(_, _, let seq): "admit \(seq)"
      case .begin(_, _, let seq): "begin \(seq)"
      case .refuse(_, _, let code): code.wire
      case .publish(let entry): "publish \(entry.seq)"
      case .waitForGap: "wait"
      case .readGap(let after, let through): "gap \(after) \(through)"
      case .readHead(let asOf): "head \(asOf)"
      case .rewound(let from, let to): "rewound \(from) \(to)"
      case .readReplay(_, _, let after, let through): "read \(after) \(through)"
      case .replay(_, let entries): "replay \(entries.map(\.seq))"
      case .resumed(_, let seq): "resumed \(seq)"
      case .awaitRoom: "room"
      case .join: "join"
      case .reset(_, let seq): "reset \(seq)"
      case .left(_, let seq, _): "left \(seq)"
      case .revoke(_, let code): code.wire
      }
    }
  }

  @Test func `a socket that hears late of a new dialog is sent its first messages`() {
    let ada = Self.people[0]
    func dialog(head: Int64, kind: RoomKind = .dialog) -> RoomFeed {
      var feed = RoomFeed()
      let room = Room(
        id: RoomID(1),
        Room.Properties(
          name: "", kind: kind, createdAt: Timestamp(milliseconds: 0),
          pair: kind == .dialog ? DialogPair(UserID(ada), UserID(Self.people[1])) : nil),
        people: RoomPeople([
          RoomPerson(
            userID: UserID(ada), joinedAt: Timestamp(milliseconds: 0), isAccepted: true)
        ]), accessVersion: 1)
      _ = feed.handle(.loaded((room, head)))
      return feed
    }
    var feed = dialog(head: 2)
    #expect(words(feed.handle(.attach(0, reader(0), .became))) == ["begin 0", "read 0 2"])
    let isDelivered = feed.deliverNext(Self.entry(3))
    #expect(isDelivered)
    #expect(
      words(feed.handle(.replayRead(0, replay: 1, [Self.entry(1), Self.entry(2)])))
        == ["replay [1, 2]", "room"])
    // What came meanwhile follows, and no `resumed` is sent, because none was asked for.
    #expect(words(feed.handle(.replayTaken(0, replay: 1))) == ["replay [3]", "join"])
    for (head, kind, expected) in [
      (0, RoomKind.dialog, "admit 0"), (11, .dialog, "admit 11"), (2, .group, "admit 2"),
    ] {
      var feed = dialog(head: Int64(head), kind: kind)
      #expect(words(feed.handle(.attach(0, reader(0), .became))) == [expected])
    }
  }

  @Test func `a change that concerns some is not examined for the others`() {
    var feed = liveFeed(5)
    for id in [0, 1] as [UInt64] { _ = feed.handle(.attach(id, reader(Int(id)), .listed)) }
    let nobody = Self.room(version: 2, readers: [])
    #expect(words(feed.handle(.changed(nobody, concerns: [1]))) == ["revoked"])
    #expect(feed.isSubscribed(0) && !feed.isSubscribed(1))
    let same = Self.room(version: 3, readers: [])
    #expect(words(feed.handle(.changed(same, concerns: nil))) == ["revoked"])
  }

  @Test func `a thousand entries are replayed, one more is a reset`() {
    for (last, expected) in [(5, "reset 1006"), (6, "read 6 1006")] {
      var feed = liveFeed(1006)
      let outputs = feed.handle(
        .attach(0, reader(0), .resume(last: Int64(last), clientID: nil, budget: ReplayBudget())))
      #expect(words(outputs) == [expected])
    }
  }

  @Test func `the rooms of one frame share its ten thousand`() {
    let budget = ReplayBudget()
    let outcomes = (0..<11).map { _ in
      var feed = liveFeed(1000)
      return words(
        feed.handle(.attach(0, reader(0), .resume(last: 0, clientID: nil, budget: budget))))[0]
    }
    #expect(outcomes == Array(repeating: "read 0 1000", count: 10) + ["reset 1000"])
  }

  @Test func `a client that is ahead of this node is made whole when it has caught up`() {
    var feed = liveFeed(3)
    let resume = RoomFeed.Input.attach(
      0, reader(0), .resume(last: 5, clientID: nil, budget: ReplayBudget()))
    #expect(words(feed.handle(resume)) == ["head 3"])
    #expect(words(feed.handle(.headRead(6, asOf: 3))) == ["gap 3 6"])
    let filled = feed.handle(.gapRead((4...6).map(Self.entry)))
    #expect(words(filled) == ["publish 4", "publish 5", "publish 6", "read 5 6"])
    // The head in the database is below the client's seq, so that seq belongs to another log.
    var other = liveFeed(3)
    _ = other.handle(resume)
    #expect(words(other.handle(.headRead(3, asOf: 3))) == ["reset 3"])
    // An open gap that ends before the head that was read is extended to that head.
    var waiting = liveFeed(3)
    #expect(words(waiting.handle(.entry(Self.entry(5)))) == ["wait"])
    _ = waiting.handle(
      .attach(0, reader(0), .resume(last: 6, clientID: nil, budget: ReplayBudget())))
    #expect(words(waiting.handle(.headRead(6, asOf: 3))) == [])
    #expect(words(waiting.handle(.gapTimeout)) == ["gap 3 6"])
    #expect(
      words(waiting.handle(.gapRead((4...6).map(Self.entry))))
        == ["publish 4", "publish 5", "publish 6", "resumed 6", "join"])
    var failing = liveFeed(3)
    _ = failing.handle(resume)
    #expect(words(failing.handle(.headRead(nil, asOf: 3))) == ["reset 3"])
  }

  @Test func `what comes during a long replay is read from the log where it is too much to keep`() {
    var feed = liveFeed(2)
    var outputs = feed.handle(
      .attach(0, reader(0), .resume(last: 0, clientID: nil, budget: ReplayBudget())))
    #expect(words(outputs) == ["read 0 2"])
    for seq: Int64 in 3...6 {
      let large = Entry(
        roomID: RoomID(1), seq: seq, id: .make(), from: UserID(Self.people[0]), channelID: "1",
        ts: .now, clientID: nil, ordinal: seq,
        body: .message(
          MessageContent(type: .text, data: String(repeating: "x", count: 30_000))))
      _ = feed.handle(.entry(large))
    }
    outputs = feed.handle(.replayRead(0, replay: 1, [Self.entry(1), Self.entry(2)]))
    #expect(words(outputs) == ["replay [1, 2]", "resumed 2", "room"])
    #expect(words(feed.handle(.replayTaken(0, replay: 1))) == ["read 2 6"])
    outputs = feed.handle(.replayRead(0, replay: 1, (3...6).map(Self.entry)))
    #expect(words(outputs) == ["replay [3, 4, 5, 6]", "room"])
    #expect(words(feed.handle(.replayTaken(0, replay: 1))) == ["join"])
  }

  @Test func `a stranger cannot tell a room from none by leaving it`() {
    for found in [false, true] {
      var feed = RoomFeed()
      _ = feed.handle(.attach(3, reader(3), .subscribe(clientID: nil)))
      _ = feed.handle(.leave(3, reader(3), clientID: nil))
      let outputs = feed.handle(
        .loaded(found ? (Self.room(version: 1, readers: [0]), 7) : nil))
      #expect(words(outputs) == ["room_not_found", "room_not_found"])
    }
  }

  @Test func `asks that pile up are refused`() {
    var feed = RoomFeed()
    let refused = (0..<300).filter { _ in
      words(feed.handle(.attach(0, reader(0), .subscribe(clientID: nil)))) == ["rate_limited"]
    }
    #expect(refused.count == 300 - 256)
  }

  @Test func `who may not read is refused, and told no more than that`() {
    var feed = RoomFeed()
    let stranger = Caller.foreign(Self.people[3])
    _ = feed.handle(.attach(3, stranger, .subscribe(clientID: "c")))
    let outputs = feed.handle(.loaded((Self.room(version: 1, readers: [0]), 7)))
    guard outputs.count == 1, case .refuse(3, .subscribe("c"), let code) = outputs[0] else {
      Issue.record("\(outputs)")
      return
    }
    #expect(code == .roomNotFound)
  }

  @Test func `a log that ends before what was delivered resets everyone`() {
    var feed = liveFeed(9)
    _ = feed.handle(.attach(0, reader(0), .subscribe(clientID: nil)))
    #expect(
      words(
        feed.handle(
          .attach(1, reader(1), .resume(last: 5, clientID: nil, budget: ReplayBudget()))))
        == ["read 5 9"])
    // This head was read when the feed had delivered only up to 7, so it is no sign of a rewound log.
    #expect(words(feed.handle(.head(7, asOf: 7))) == [])
    #expect(words(feed.handle(.head(7, asOf: 9))) == ["rewound 9 7", "reset 7", "reset 7"])
    #expect(feed.lastSeq == 7)
    // The replay that was under way has ended, so its read is ignored.
    #expect(words(feed.handle(.replayRead(1, replay: 1, [Self.entry(6)]))) == [])
    #expect(words(feed.handle(.entry(Self.entry(8)))) == ["publish 8"])
  }

  @Test func `an entry below the head asks where the log ends`() {
    var feed = liveFeed(3)
    _ = feed.handle(.entry(Self.entry(4)))
    // The same entry arrives twice.
    #expect(words(feed.handle(.entry(Self.entry(4)))) == [])
    #expect(words(feed.handle(.entry(Self.entry(2)))) == ["head 4"])
    // The head is read only once at a time.
    #expect(words(feed.handle(.entry(Self.entry(3)))) == [])
    #expect(words(feed.handle(.headRead(2, asOf: 4))) == ["rewound 4 2"])
    #expect(words(feed.handle(.entry(Self.entry(3)))) == ["publish 3"])
  }

  @Test func `a higher head while a gap is filled is filled as well`() {
    var feed = liveFeed(3)
    #expect(words(feed.handle(.head(4, asOf: 0))) == ["wait"])
    #expect(words(feed.handle(.head(6, asOf: 0))) == [])
    #expect(words(feed.handle(.head(5, asOf: 0))) == [])
    #expect(words(feed.handle(.gapTimeout)) == ["gap 3 6"])
    #expect(words(feed.handle(.head(7, asOf: 0))) == [])
    let found = (4...6).map { Self.entry($0) }
    #expect(
      words(feed.handle(.gapRead(found))) == ["publish 4", "publish 5", "publish 6", "gap 6 7"])
  }

  @Test func `a gap that the log does not have is none`() {
    var feed = liveFeed(3)
    #expect(words(feed.handle(.head(9, asOf: 3))) == ["wait"])
    #expect(words(feed.handle(.gapTimeout)) == ["gap 3 9"])
    #expect(words(feed.handle(.gapRead([]))) == ["head 3"])
    #expect(words(feed.handle(.headRead(3, asOf: 3))) == [])
    #expect(words(feed.handle(.entry(Self.entry(4)))) == ["publish 4"])
  }
}
