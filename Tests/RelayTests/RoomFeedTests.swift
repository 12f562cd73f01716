import Access
import Basics
import Chat
import Events
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
    var isAttached = false
    /// In the topic: hears what is published.
    var isLive = false
    /// The highest seq received or promised; nil while it was told none.
    var cursor: Int64?
    var wasToldGone = false
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
    var reads: [(isReplay: UInt64?, after: Int64, through: Int64)] = []
    var isTimerArmed = false
    var isLoadAsked = true
    var failures: [String] = []

    mutating func pick(_ count: Int) -> Int { Int(random.next() % UInt64(count)) }

    mutating func feed(_ input: RoomFeed.Input) {
      for output in feed.handle(input, claim: { _, _ in true }) { carryOut(output) }
    }

    mutating func carryOut(_ output: RoomFeed.Output) {
      switch output {
      case .load: isLoadAsked = true
      case .admit(let id, _, let seq): begin(Int(id), at: seq)
      case .reset(let id, let seq): begin(Int(id), at: seq)
      case .refuse(let id, _, _): seen[Int(id)] = Seen()
      case .revoke(let id, _):
        if !seen[Int(id)].isAttached { failures.append("gone for one who was not there") }
        seen[Int(id)] = Seen(wasToldGone: true)
      case .publish(let entry):
        for person in seen.indices where seen[person].isLive { receive(person, entry) }
      case .waitForGap: isTimerArmed = true
      case .readGap(let after, let through): reads.append((nil, after, through))
      case .readReplay(let id, let after, let through): reads.append((id, after, through))
      case .replay(let id, let entries, let seq, let later):
        let person = Int(id)
        if seen[person].cursor == nil {
          seen[person].cursor = entries.first.map { $0.seq - 1 } ?? seq
        }
        for entry in entries { receive(person, entry) }
        if seen[person].cursor != seq {
          failures.append("resumed at \(seq) but has \(seen[person].cursor ?? -1)")
        }
        for entry in later { receive(person, entry) }
        seen[person].isLive = true
      }
    }

    mutating func begin(_ person: Int, at seq: Int64) {
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
        let cursor = seen[person].cursor
        let purpose: RoomFeed.Purpose =
          pick(2) == 0 ? .resume(last: cursor ?? max(0, head - Int64(pick(5)))) : .subscribe
        seen[person] = Seen(isAttached: true, cursor: purpose == .subscribe ? nil : cursor)
        feed(.attach(UInt64(person), caller(person), purpose))
      case 8:
        let person = pick(people.count)
        seen[person] = Seen()
        feed(.detach(UInt64(person)))
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
        } else if !reads.isEmpty {
          finishRead()
        }
      default:
        if !reads.isEmpty { finishRead() } else if pick(30) == 0, !isDeleted { delete() }
      }
    }

    mutating func finishRead() {
      let read = reads.removeFirst()
      let fails = pick(10) == 0
      let through = min(read.through, head)
      let entries = read.after < through ? ((read.after + 1)...through).map(entry) : []
      if let id = read.isReplay {
        feed(.replayRead(id, fails ? nil : entries))
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
        while !reads.isEmpty { finishRead() }
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
    for (person, seen) in world.seen.enumerated() where seen.isLive {
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
    _ = feed.handle(.attach(3, stranger, .subscribe), claim: { _, _ in true })
    let outputs = feed.handle(
      .loaded((Self.room(version: 1, readers: [0]), 7)), claim: { _, _ in true })
    guard outputs.count == 1, case .refuse(3, .subscribe, let code) = outputs[0] else {
      Issue.record("\(outputs)")
      return
    }
    #expect(code == .roomNotFound)
  }
}

/// Repeatable numbers (SplitMix64).
struct SeededRandom: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
