internal import Basics

/// A point on the loop's own time line, counted by how many heads have moved.
struct HeadMark: Comparable {
  fileprivate var moves: UInt64 = 0
  /// The period it lies in, see `MovedHeads`.
  fileprivate var period: Int = 0

  static let beginning = HeadMark()
  static func < (left: HeadMark, right: HeadMark) -> Bool { left.moves < right.moves }
}

/// Remembers which rooms' heads have moved lately, so that a heartbeat looks at those rooms only. A value. Time
/// passes in periods, whenever the owner says so.
struct MovedHeads {
  private(set) var mark = HeadMark.beginning
  /// The rooms that moved in each of the last periods; the present period is the last element.
  private var periods: [[RoomID]] = [[]]

  /// How many periods are remembered.
  private static let maximumPeriods = 40

  /// Notes that a room's head moves; it moved at `last` before. Returns the room's new mark.
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

  /// Rooms that may have moved since the mark, at most `limit`, possibly with repetitions. Nil if there are more, or
  /// if the mark is older than what is remembered.
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
