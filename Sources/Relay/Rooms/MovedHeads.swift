internal import Basics

/// A moment in the life of a loop's rooms: how many times any of their heads has moved.
struct HeadMark: Comparable {
  fileprivate var moves: UInt64 = 0
  /// The period that it is in (`MovedHeads`).
  fileprivate var period: Int = 0

  static let beginning = HeadMark()
  static func < (left: HeadMark, right: HeadMark) -> Bool { left.moves < right.moves }
}

/// Which rooms' heads have moved lately, so that whoever wants to know looks at those only. A value; time
/// passes in periods, when its owner says so.
struct MovedHeads {
  private(set) var mark = HeadMark.beginning
  /// For each of the last periods, the rooms that moved in it; the present one is the last.
  private var periods: [[RoomID]] = [[]]

  /// As many periods are remembered.
  private static let maximumPeriods = 40

  /// A room's head moves, which did so last at `last`. Returns the new mark of the room.
  mutating func move(_ room: RoomID, last: HeadMark) -> HeadMark {
    mark.moves += 1
    if last.period < mark.period || last == .beginning {
      periods[periods.count - 1].append(room)
    }
    return mark
  }

  /// Begins the next period.
  mutating func beginPeriod() {
    mark.period += 1
    periods.append([])
    if periods.count > Self.maximumPeriods { periods.removeFirst() }
  }

  /// Rooms that may have moved since, at most `limit`, some of them more than once; nil where there are more,
  /// or where it was too long ago.
  func candidates(since: HeadMark, limit: Int) -> [RoomID]? {
    let count = mark.period - since.period + 1
    guard count <= periods.count else { return nil }
    var candidates: [RoomID] = []
    for period in periods.suffix(count) {
      guard candidates.count + period.count <= limit else { return nil }
      candidates += period
    }
    return candidates
  }
}
