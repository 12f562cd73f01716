internal import Basics
internal import Events

/// Those of a room's subscribers that are being made whole: each is sent the log, a piece at a time, then what was
/// published meanwhile. A value.
struct RoomReplays {
  typealias SubscriberID = RoomFeed.SubscriberID

  private struct Replay {
    /// Tells this replay's reads from those of earlier ones, which may still be under way.
    let number: Int
    /// The seq that `resumed` will name: the head when it was asked for.
    let promised: Int64
    /// Up to where the log is being read.
    var through: Int64
    /// The last entry that was sent.
    var sent: Int64
  }

  private var replays: [SubscriberID: Replay] = [:]
  /// What was published last, for all of them: in order, without a gap, to the head. Only while there are
  /// replays, and not very much: the log has it.
  private var recent: [Entry] = []
  private var recentBytes = 0
  private var count = 0

  enum Step {
    /// Read these entries, or the first of them.
    case read(after: Int64, through: Int64)
    /// The subscriber has all but these, which were published meanwhile. It is not being made whole any more.
    case end([Entry])
  }

  private static let maximumRecentBytes = 64 * 1024

  var subscribers: Set<SubscriberID> { Set(replays.keys) }
  func contains(_ id: SubscriberID) -> Bool { !replays.isEmpty && replays[id] != nil }

  /// The subscriber has the log up to `last`, and is to have it up to `through`. Returns the number of the replay.
  mutating func begin(_ id: SubscriberID, after last: Int64, through: Int64) -> Int {
    count += 1
    replays[id] = Replay(number: count, promised: through, through: through, sent: last)
    return count
  }

  /// Whether this is the replay that the subscriber is in now.
  func isCurrent(_ number: Int, of id: SubscriberID) -> Bool { replays[id]?.number == number }

  mutating func end(_ id: SubscriberID) {
    if replays.isEmpty { return }
    replays[id] = nil
    if replays.isEmpty { forgetRecent() }
  }

  mutating func endAll() {
    replays = [:]
    forgetRecent()
  }

  private mutating func forgetRecent() {
    recent = []
    recentBytes = 0
  }

  /// An entry was published. Costs the same however many replays there are.
  mutating func keep(_ entry: Entry) {
    if replays.isEmpty { return }
    if recentBytes > Self.maximumRecentBytes { forgetRecent() }
    recent.append(entry)
    recentBytes += entry.cost
  }

  /// What was published after `seq`, up to `lastSeq`; nil where not all of it is kept.
  private func published(after seq: Int64, through lastSeq: Int64) -> [Entry]? {
    guard seq < lastSeq else { return [] }
    guard let first = recent.first?.seq, first <= seq + 1 else { return nil }
    return Array(recent.dropFirst(Int(seq + 1 - first)))
  }

  /// What a piece of the log brings the subscriber to.
  struct Progress {
    /// The seq that it was promised, where it has that with this piece.
    let promised: Int64?
  }

  /// A piece of the log was read, and is sent to the subscriber. Nil where it is not what was asked for.
  mutating func take(_ entries: [Entry], for id: SubscriberID) -> Progress? {
    guard let replay = replays[id], let first = entries.first, let last = entries.last,
      first.seq == replay.sent + 1, last.seq <= replay.through,
      last.seq - first.seq == Int64(entries.count - 1)
    else { return nil }
    replays[id]?.sent = last.seq
    let keepsPromise = replay.sent < replay.promised && last.seq >= replay.promised
    return Progress(promised: keepsPromise ? replay.promised : nil)
  }

  /// The subscriber has taken what it was sent; `lastSeq` is where delivery stands. Nil where it is in no replay.
  mutating func next(_ id: SubscriberID, lastSeq: Int64) -> Step? {
    guard let replay = replays[id] else { return nil }
    if replay.sent < replay.through { return .read(after: replay.sent, through: replay.through) }
    if let later = published(after: replay.sent, through: lastSeq) {
      end(id)
      return .end(later)
    }
    replays[id]?.through = lastSeq
    return .read(after: replay.sent, through: lastSeq)
  }
}
