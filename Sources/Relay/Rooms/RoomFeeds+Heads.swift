internal import Basics
internal import Chat
internal import Events
internal import Live

/// The heads of this loop's rooms: which have moved, and whether they agree with the database.
extension RoomFeeds {
  // MARK: Moved

  /// The seq up to which this loop has delivered the room.
  func lastSeq(_ id: RoomID) -> Int64? { rooms[id]?.feed.lastSeq }

  var headMark: HeadMark { moved.mark }

  /// Those of the rooms whose heads have moved since the mark, each with its present head. Rooms in which the
  /// listener is still behind are left out. The cost is the number of moved heads or of rooms, whichever is smaller.
  func movedHeads(
    of ids: Set<RoomID>, since mark: HeadMark, for listener: any RoomListener
  ) -> [RoomHead] {
    let number = listener.connection.number
    var heads: [RoomID: Int64] = [:]
    func check(at id: RoomID) {
      // The listener may not be in some of its rooms yet, and may not be allowed to know of others.
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

  /// Called once a second. Heads that move from now on belong to the next period.
  func beginPeriod() { moved.beginPeriod() }

  // MARK: Comparing

  /// How long a room without listeners is still served, in case one comes back.
  private static let unusedMilliseconds: Int64 = 30_000
  /// The pause after a comparison that was urgent and failed.
  private static let retryMilliseconds = 1000

  /// Compares the heads of some served rooms with the database, and stops serving those of them that nobody listens
  /// to. Returns the number of rooms in the present round. The call after the last part of a round begins the next
  /// round.
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

  /// Entries of these shards may have been lost between nodes. Compares the heads of their rooms without waiting for
  /// the next round, one part after the other.
  func missed(_ shards: Set<Shard>) {
    var live: [RoomID] = []
    for (id, served) in rooms where shards.contains(Shard(of: id)) {
      // The read that is under way may return the state before the loss.
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

  /// The heads of `left` could not be read.
  private func urgentCompared(_ left: [RoomID], _ number: Int) {
    guard comparisons.urgentDone(number) else { return }
    compareAtOnce(left)
  }

  /// `then` is told whether the heads could be read.
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

/// Decides which rooms' heads are compared with the database next: all rooms in endless rounds, and without delay
/// those that may have lost entries. A value, without a clock.
struct HeadComparisons {
  /// Chosen so that reading and comparing one part takes the loop less than a millisecond.
  static let roomsPerPart = 500

  private var round = ArraySlice<RoomID>()
  private var urgent: Set<RoomID> = []
  /// The number of the urgent part that is being compared, or nil.
  private var running: Int?
  private var parts = 0

  /// The number of rooms in the present round.
  private(set) var roomsInRound = 0

  /// Begins a round if the last one has ended.
  mutating func beginRound(_ rooms: () -> some Sequence<RoomID>) {
    guard round.isEmpty else { return }
    round = ArraySlice(rooms())
    roomsInRound = round.count
  }

  /// The next part of the round.
  mutating func nextOfRound() -> ArraySlice<RoomID> {
    defer { round = round.dropFirst(Self.roomsPerPart) }
    return round.prefix(Self.roomsPerPart)
  }

  mutating func addUrgent(_ rooms: [RoomID]) { urgent.formUnion(rooms) }

  /// The next urgent part with its number. Nil while one is being compared, and if there is none.
  mutating func nextUrgent() -> (rooms: [RoomID], number: Int)? {
    guard running == nil, !urgent.isEmpty else { return nil }
    parts += 1
    running = parts
    let part = Array(urgent.prefix(Self.roomsPerPart))
    urgent.subtract(part)
    return (part, parts)
  }

  /// The part that `nextUrgent` returned has been compared. Returns false if `forgetAll` was called meanwhile.
  mutating func urgentDone(_ number: Int) -> Bool {
    guard running == number else { return false }
    running = nil
    return true
  }

  /// Forgets all rooms, also those that are being compared.
  mutating func forgetAll() {
    round = []
    urgent = []
    running = nil
  }
}
