internal import Basics
internal import Events

/// Where delivery of one room's entries stands on a loop: which is the next, what came beyond a gap, and how far that
/// goes. A value: entries and heads in, what to do out.
struct EntryOrder {
  /// The seq up to which entries have been delivered.
  private(set) var lastSeq: Int64
  /// The id of the last that was delivered.
  private var lastID: MessageID?
  /// Entries beyond a gap, by seq. The log has them all the same: there is a bound.
  private var ahead: [Int64: Entry] = [:]
  private var limit = KeepLimit()
  /// The seq up to which a gap is being filled; nil while there is none.
  private(set) var gapEnd: Int64?
  /// Whether the head is being read because of an entry that should not have come.
  private var isHeadDoubted = false

  enum Arrival {
    /// These are the next, in order: at least one.
    case next([Entry])
    /// Something is missing before it, and now begins to be waited for.
    case gapBegins
    /// It was not expected, and the head tells why.
    case unexpected
    /// It came by two ways, or waits behind a gap.
    case nothing
  }

  init(after lastSeq: Int64) { self.lastSeq = lastSeq }

  /// The common case: true where the entry is the next and nothing waits behind it; else nothing has changed.
  mutating func takeNext(_ entry: Entry) -> Bool {
    guard entry.seq == lastSeq + 1, ahead.isEmpty else { return false }
    lastSeq = entry.seq
    lastID = entry.id
    return true
  }

  mutating func take(_ entry: Entry) -> Arrival {
    if entry.seq <= lastSeq { return seenBefore(entry) }
    if entry.seq == lastSeq + 1 { return .next(advance(entry)) }
    if limit.admits(entry, besides: ahead.count) { ahead[entry.seq] = entry }
    defer { gapEnd = max(gapEnd ?? 0, entry.seq) }
    return gapEnd == nil ? .gapBegins : .nothing
  }

  /// An entry at or below the head: it came by two ways, or the database's log is another one than was delivered
  /// here. The head tells.
  private mutating func seenBefore(_ entry: Entry) -> Arrival {
    guard entry.id != lastID, !isHeadDoubted else { return .nothing }
    isHeadDoubted = true
    return .unexpected
  }

  /// The next entry, and those that were waiting right behind it.
  private mutating func advance(_ first: Entry) -> [Entry] {
    var entries = [first]
    while !ahead.isEmpty, let next = ahead.removeValue(forKey: first.seq + Int64(entries.count)) {
      entries.append(next)
    }
    lastSeq = first.seq + Int64(entries.count - 1)
    lastID = entries.last?.id
    return entries
  }

  // MARK: Gaps and heads

  /// What is missing up to the end of the gap; nil, and there is no gap any more, where that is nothing.
  mutating func missing() -> (after: Int64, through: Int64)? {
    if let end = gapEnd, end > lastSeq { return (lastSeq, end) }
    gapEnd = nil
    return nil
  }

  /// The log goes on to here. True where a gap begins by that.
  mutating func reach(_ seq: Int64) -> Bool {
    guard seq > lastSeq else { return false }
    defer { gapEnd = max(gapEnd ?? 0, seq) }
    return gapEnd == nil
  }

  /// The log ends before the gap does: there is none, and what spoke of one spoke of another log.
  mutating func endGap() { gapEnd = nil }

  /// The head was read.
  mutating func headIsKnown() { isHeadDoubted = false }

  /// Goes back to where the log really ends. False where that is not before what was delivered.
  mutating func rewind(to seq: Int64) -> Bool {
    guard seq < lastSeq else { return false }
    self = EntryOrder(after: seq)
    return true
  }
}

/// How many entries are kept that wait for others, in number and in bytes.
struct KeepLimit {
  private var bytes = 0

  private static let maximumCount = 4096
  private static let maximumBytes = 4 * 1024 * 1024

  /// Whether one more may be kept, besides so many; it then counts.
  mutating func admits(_ entry: Entry, besides count: Int) -> Bool {
    if count == 0 { bytes = 0 }
    guard count < Self.maximumCount, bytes < Self.maximumBytes else { return false }
    bytes += entry.cost
    return true
  }
}
