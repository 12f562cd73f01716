import Access
import Basics
import Chat
import Events
import TestSupport
import Testing

@testable import Relay

/// A room's log, its feed and its subscribers, driven in every order by a generator with a seed. Every
/// subscriber keeps a log of what it was told; the promises of CONTRACT section 6 are checked on it.
@Suite struct RoomFeedTests {
  private static let people = (1...4).map { UUID(high: 9, low: UInt64($0)) }

  private static func room(version: Int64, readers: Set<Int>) -> Room {
    Room(
      id: RoomID(1), name: "r", type: .group, levelAdmin: 9,
      ownerUser: UserID(UUID(high: 1, low: 1)),
      ownerEntity: nil, isByInvitation: false, createdAt: Timestamp(milliseconds: 0),
      rules: readers.sorted().map {
        RoomRule(subject: people[$0], permissions: .read, level: 0, isAccepted: true)
      }, accessVersion: version)
  }

  private static func entry(_ seq: Int64) -> Entry {
    Entry(
      roomID: RoomID(1), seq: seq, id: MessageID(UUID(high: 5, low: UInt64(seq))), type: .text,
      from: UserID(people[0]), channelID: "1", data: "\(seq)", ts: Timestamp(milliseconds: seq),
      clientID: nil)
  }

  /// What one subscriber knows.
  private struct Seen {
    /// In the topic: hears what is published.
    var isLive = false
    /// The highest seq received or promised; nil while it was told none.
    var cursor: Int64?
    /// What it asked for and has not been answered, in order: nil is `unsubscribe`.
    var asks: [RoomFeed.Purpose?] = []
    /// What the client has, as it said in its `resume`.
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
    /// Entries committed and on their way; some get lost, some come out of order.
    var inFlight: [Entry] = []
    /// Work that the feed asked for and that is not done yet.
    var reads: [Read] = []
    /// Replays whose subscriber has not taken its last piece yet.
    var untaken: [(id: UInt64, number: Int)] = []
    var isTimerArmed = false
    var isLoadAsked = true
    var failures: [String] = []

    struct Read {
      /// Nil where it fills a gap.
      let replay: (id: UInt64, number: Int)?
      let after: Int64
      let through: Int64
    }

    mutating func pick(_ count: Int) -> Int { Int(random.next() % UInt64(count)) }

    mutating func feed(_ input: RoomFeed.Input) {
      for output in feed.handle(input, claim: { _, _ in true }) { carryOut(output) }
    }

    mutating func carryOut(_ output: RoomFeed.Output) {
      switch output {
      case .admit(let id, let purpose, let seq):
        answered(Int(id), purpose)
        begin(Int(id), at: seq)
      case .reset(let id, let seq):
        // Also after `resumed`, where what came later could not be read.
        if !seen[Int(id)].hasResumed { answeredResume(Int(id)) }
        begin(Int(id), at: seq)
      case .refuse(let id, let purpose, _):
        answered(Int(id), purpose)
        leave(Int(id))
      case .left(let id, _, _):
        let person = Int(id)
        // It may end a replay, and what waited behind it, early.
        while let ask = seen[person].asks.first, ask != nil { seen[person].asks.removeFirst() }
        if seen[person].asks.isEmpty {
          failures.append("unsubscribed unasked")
        } else {
          seen[person].asks.removeFirst()
        }
        leave(person)
      case .revoke(let id, _):
        // The answer to a resume that was being carried out, too.
        let person = Int(id)
        if replaysSeen.contains(person), !seen[person].hasResumed { answeredResume(person) }
        leave(person)
      case .publish(let entry):
        for person in seen.indices where seen[person].isLive { receive(person, entry) }
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

    /// Persons that are being replayed, and the replays they were in.
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
        // The change is committed, but this loop may not have heard of it yet.
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
        // Mostly the oldest, sometimes another, sometimes lost.
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
          ? .resume(last: max(0, head - Int64(pick(9))), clientID: "\(pick(100))")
          : .subscribe(clientID: "\(pick(100))")
        seen[person].asks.append(purpose)
        feed(.attach(UInt64(person), caller(person), purpose))
      case 8:
        let person = pick(people.count)
        if pick(2) == 0 {
          feed(.detach(UInt64(person)))
          seen[person] = Seen()
          leave(person)
        } else if feed.isSubscribed(UInt64(person)) {
          seen[person].asks.append(nil)
          feed(.leave(UInt64(person), clientID: nil))
        }
      case 9:
        guard !isDeleted else { return }
        version += 1
        let person = pick(people.count)
        if readers.remove(person) == nil { readers.insert(person) }
        if pick(3) != 0 { feed(.changed(room(version: version, readers: readers))) }
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

    /// A subscriber takes what it was sent.
    mutating func take() {
      guard !untaken.isEmpty else { return }
      let (id, number) = untaken.remove(at: pick(untaken.count))
      feed(.replayTaken(id, replay: number))
    }

    mutating func finishRead() {
      let read = reads.remove(at: pick(reads.count))
      let fails = pick(10) == 0
      // A reading gives at least one entry, and mostly not all of them.
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
      feed(.changed(nil))
    }

    func caller(_ person: Int) -> Caller {
      Caller(
        userID: UserID(people[person]), entities: [], level: 0, origin: .foreignToken,
        expiresAt: nil)
    }

    /// Everything that is on its way arrives, lost entries are found by comparing heads.
    mutating func settle() {
      if isLoadAsked {
        isLoadAsked = false
        feed(.loaded(isDeleted ? nil : (room(version: version, readers: readers), head)))
      }
      if !isDeleted { feed(.changed(room(version: version, readers: readers))) }
      for _ in 0..<50 {
        while !inFlight.isEmpty { feed(.entry(inFlight.removeFirst())) }
        if isTimerArmed {
          isTimerArmed = false
          feed(.gapTimeout)
        }
        while !reads.isEmpty || !untaken.isEmpty {
          take()
          if !reads.isEmpty { finishRead() }
        }
        feed(.head(head))
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

  @Test func `who may not read is refused, and told no more than that`() {
    var feed = RoomFeed()
    let stranger = Caller(
      userID: UserID(Self.people[3]), entities: [], level: 0, origin: .foreignToken, expiresAt: nil)
    _ = feed.handle(.attach(3, stranger, .subscribe(clientID: "c")), claim: { _, _ in true })
    let outputs = feed.handle(
      .loaded((Self.room(version: 1, readers: [0]), 7)), claim: { _, _ in true })
    guard outputs.count == 1, case .refuse(3, .subscribe("c"), let code) = outputs[0] else {
      Issue.record("\(outputs)")
      return
    }
    #expect(code == .roomNotFound)
  }
}
