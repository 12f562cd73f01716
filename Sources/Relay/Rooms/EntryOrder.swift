internal import Basics
internal import Events

/// The order of one room's entries on a loop: which entry is next, which came early behind a gap, and how far the gap
/// reaches. A value: entries and heads go in, decisions come out.
struct EntryOrder {
  /// The seq up to which entries have been delivered.
  private(set) var lastSeq: Int64
  /// The id of the entry that was delivered last.
  private var lastID: MessageID?
  /// Entries that came early, behind a gap, by seq. Bounded: those that are dropped can be read from the log.
  private var ahead: [Int64: Entry] = [:]
  private var limit = KeepLimit()
  /// The seq up to which a gap is being filled, or nil if there is no gap.
  private(set) var gapEnd: Int64?
  /// Whether the head is being read because an entry came that should not have.
  private var isHeadDoubted = false

  enum Arrival {
    /// These are the next entries, in order; at least one.
    case next([Entry])
    /// Something before it is missing. A gap begins here.
    case gapBegins
    /// It was not expected. The head in the database has to tell why.
    case unexpected
    /// Nothing to do: it came twice, or it waits behind a gap.
    case nothing
  }

  init(after lastSeq: Int64) { self.lastSeq = lastSeq }

  /// The fast path. Returns true if the entry is the next one and nothing waits behind it; otherwise nothing has
  /// changed.
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

  /// An entry at or below the head. Either it came twice, or the database's log is not the one that was delivered
  /// here. The head tells which.
  private mutating func seenBefore(_ entry: Entry) -> Arrival {
    guard entry.id != lastID, !isHeadDoubted else { return .nothing }
    isHeadDoubted = true
    return .unexpected
  }

  /// The next entry, and those that were waiting directly behind it.
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

  /// What is missing up to the end of the gap. If nothing is missing any more, the gap ends and the result is nil.
  mutating func missing() -> (after: Int64, through: Int64)? {
    if let end = gapEnd, end > lastSeq { return (lastSeq, end) }
    gapEnd = nil
    return nil
  }

  /// Notes that the log reaches this seq. Returns true if that begins a gap.
  mutating func reach(_ seq: Int64) -> Bool {
    guard seq > lastSeq else { return false }
    defer { gapEnd = max(gapEnd ?? 0, seq) }
    return gapEnd == nil
  }

  /// Ends the gap, because the log ends before it: what announced the missing entries belonged to another log.
  mutating func endGap() { gapEnd = nil }

  /// The head has been read.
  mutating func headIsKnown() { isHeadDoubted = false }

  /// Goes back to where the log really ends. Returns false if nothing beyond that was delivered.
  mutating func rewind(to seq: Int64) -> Bool {
    guard seq < lastSeq else { return false }
    self = EntryOrder(after: seq)
    return true
  }
}

/// Bounds the entries that are kept until others arrive, by number and by bytes.
struct KeepLimit {
  private var bytes = 0

  private static let maximumCount = 4096
  private static let maximumBytes = 4 * 1024 * 1024

  /// Whether one more entry may be kept besides `count` others. If so, it counts from now on.
  mutating func admits(_ entry: Entry, besides count: Int) -> Bool {
    if count == 0 { bytes = 0 }
    guard count < Self.maximumCount, bytes < Self.maximumBytes else { return false }
    bytes += entry.cost
    return true
  }
}
