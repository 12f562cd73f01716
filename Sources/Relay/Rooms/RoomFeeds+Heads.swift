internal import Basics
internal import Chat
internal import Events
internal import Live

/// Where the rooms of this loop stand: which heads have moved, and whether the database's are the same.
extension RoomFeeds {
  // MARK: Moved

  /// The seq up to which the room has been delivered on this loop.
  func lastSeq(_ id: RoomID) -> Int64? { rooms[id]?.feed.lastSeq }

  var headMark: HeadMark { moved.mark }

  /// Those of the rooms whose heads have moved since, with where they are now; without those that the
  /// listener is behind in. Costs what moved, or what there is of the rooms, whichever is less.
  func movedHeads(
    of ids: Set<RoomID>, since mark: HeadMark, for listener: any RoomListener
  ) -> [RoomHead] {
    let number = listener.connection.number
    var heads: [RoomID: Int64] = [:]
    func check(at id: RoomID) {
      // Of the rooms that it asked for, it may not be in some yet, and may not know of others.
      guard let served = rooms[id], served.movedAt > mark, let head = served.feed.lastSeq,
        served.feed.isSubscribed(number), !served.feed.isBehind(number)
      else { return }
      heads[id] = head
    }
    if let candidates = moved.candidates(since: mark, limit: ids.count) {
      for id in candidates where ids.contains(id) { check(at: id) }
    } else {
      for id in ids { check(at: id) }
    }
    return heads.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }

  /// Called once a second: heads that move from now on are of another period.
  func beginPeriod() { moved.beginPeriod() }

  // MARK: Comparing

  /// An unused room is served for so long, in case somebody comes back.
  private static let unusedMilliseconds: Int64 = 30_000
  /// After a comparison that had to be made at once failed.
  private static let retryMilliseconds = 1000

  /// Compares the heads of some served rooms with the database, and forgets those of them that nobody
  /// hears. Returns how many rooms the present round has in all; the call behind its last begins another.
  func compareSomeHeads() -> Int {
    comparisons.beginRound { rooms.keys }
    let now = reader.backend.now
    let kept = comparisons.nextOfRound().filter { id in
      guard let served = rooms[id] else { return false }
      guard served.feed.isUnused, !served.feed.isLoading, let since = served.unusedSince,
        now - since >= Self.unusedMilliseconds
      else { return true }
      endServing(id)
      return false
    }
    compareHeads(of: kept) { _ in }
    return comparisons.roomsInRound
  }

  /// Entries of these shards may have been lost between nodes: compares the heads of their rooms at once,
  /// one part after the other.
  func missed(_ shards: Set<Shard>) {
    var live: [RoomID] = []
    for (id, served) in rooms where shards.contains(Shard(of: id)) {
      // What is being read may be the state before what was lost.
      if served.feed.isLoading { served.mayHaveMissed = true } else { live.append(id) }
    }
    compareAtOnce(live)
  }

  func compareAtOnce(_ ids: [RoomID]) {
    comparisons.addUrgent(ids)
    compareUrgent()
  }

  private func compareUrgent() {
    guard let (ids, number) = comparisons.nextUrgent() else { return }
    // Unowned, here and below: feeds live as long as their loop.
    compareHeads(of: ids) { [unowned self] isDone in
      if isDone {
        urgentCompared([], number)
      } else {
        reader.backend.wait(milliseconds: Self.retryMilliseconds) { [unowned self] in
          urgentCompared(ids, number)
        }
      }
    }
  }

  /// `left` could not be read.
  private func urgentCompared(_ left: [RoomID], _ number: Int) {
    guard comparisons.urgentDone(number) else { return }
    compareAtOnce(left)
  }

  /// `then` is told whether they could be read.
  private func compareHeads(of ids: [RoomID], _ then: @escaping (_ isDone: Bool) -> Void) {
    var delivered: [RoomID: Int64] = [:]
    for id in ids { delivered[id] = lastSeq(id) }
    guard !delivered.isEmpty else {
      reader.backend.nextTurn { then(true) }
      return
    }
    reader.readHeads(of: Array(delivered.keys)) { [unowned self] heads in
      for (id, seq) in heads ?? [:] where seq != lastSeq(id) {
        handle(id, .head(seq, asOf: delivered[id] ?? 0))
      }
      then(heads != nil)
    }
  }
}

/// Whose heads are compared with the database next: all rooms', again and again, and at once those of which
/// entries may have been lost. A value, without a clock.
struct HeadComparisons {
  /// Reading and looking at as many takes a loop less than a millisecond.
  static let roomsPerPart = 500

  private var round = ArraySlice<RoomID>()
  private var urgent: Set<RoomID> = []
  /// The part of the urgent ones that is being compared; nil while none is.
  private var running: Int?
  private var parts = 0

  /// How many rooms the present round has in all.
  private(set) var roomsInRound = 0

  /// Begins a round where the last is at its end.
  mutating func beginRound(_ rooms: () -> some Sequence<RoomID>) {
    guard round.isEmpty else { return }
    round = ArraySlice(rooms())
    roomsInRound = round.count
  }

  /// The round's next part.
  mutating func nextOfRound() -> ArraySlice<RoomID> {
    defer { round = round.dropFirst(Self.roomsPerPart) }
    return round.prefix(Self.roomsPerPart)
  }

  mutating func addUrgent(_ rooms: [RoomID]) { urgent.formUnion(rooms) }

  /// The next part of what is urgent, with its number; nil while one is being compared, and where there is none.
  mutating func nextUrgent() -> (rooms: [RoomID], number: Int)? {
    guard running == nil, !urgent.isEmpty else { return nil }
    parts += 1
    running = parts
    let part = Array(urgent.prefix(Self.roomsPerPart))
    urgent.subtract(part)
    return (part, parts)
  }

  /// What `nextUrgent` gave has been compared. False where that was forgotten meanwhile.
  mutating func urgentDone(_ number: Int) -> Bool {
    guard running == number else { return false }
    running = nil
    return true
  }

  /// Nothing that is to be compared counts any more, nor what is being compared.
  mutating func forgetAll() {
    round = []
    urgent = []
    running = nil
  }
}
