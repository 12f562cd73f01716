internal import Basics
internal import Events

/// The subscribers of a room that are catching up. Each is sent the log piece by piece, then what was published
/// meanwhile. A value.
struct RoomReplays {
  typealias SubscriberID = RoomFeed.SubscriberID

  private struct Replay {
    /// Distinguishes this replay's reads from those of earlier replays, which may still be under way.
    let number: Int
    /// The seq that `resumed` will name: the head at the time of the request. Nil if the client did not ask to resume.
    let promised: Int64?
    /// The seq up to which the log is being read.
    var through: Int64
    /// The seq of the last entry that was sent.
    var sent: Int64
  }

  private var replays: [SubscriberID: Replay] = [:]
  /// The entries that were published last, shared by all replays: in order, without a gap, up to the head. Kept only
  /// while there are replays, and bounded, because the log has them too.
  private var recent: [Entry] = []
  private var recentBytes = 0
  private var count = 0

  enum Step {
    /// Read these entries, or only the first of them.
    case read(after: Int64, through: Int64)
    /// The subscriber lacks only these entries, which were published meanwhile. Its replay has ended.
    case end([Entry])
  }

  private static let maximumRecentBytes = 64 * 1024

  var subscribers: Set<SubscriberID> { Set(replays.keys) }
  func contains(_ id: SubscriberID) -> Bool { !replays.isEmpty && replays[id] != nil }

  /// Begins a replay for a subscriber that has the log up to `last` and is to have it up to `through`. Returns the
  /// replay's number. If `isResume` is false, the subscriber is not told when it has the log up to `through`.
  mutating func begin(
    _ id: SubscriberID, after last: Int64, through: Int64, isResume: Bool = true
  ) -> Int {
    count += 1
    replays[id] = Replay(
      number: count, promised: isResume ? through : nil, through: through, sent: last)
    return count
  }

  /// Whether this is the subscriber's present replay.
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

  /// Keeps an entry that was published. The cost does not depend on the number of replays.
  mutating func keep(_ entry: Entry) {
    if replays.isEmpty { return }
    if recentBytes > Self.maximumRecentBytes { forgetRecent() }
    recent.append(entry)
    recentBytes += entry.cost
  }

  /// The entries published after `seq`, up to `lastSeq`; nil if not all of them are kept.
  private func published(after seq: Int64, through lastSeq: Int64) -> [Entry]? {
    guard seq < lastSeq else { return [] }
    guard let first = recent.first?.seq, first <= seq + 1 else { return nil }
    return Array(recent.dropFirst(Int(seq + 1 - first)))
  }

  /// The result of a piece of the log that was sent.
  struct Progress {
    /// The promised seq, if the subscriber has reached it with this piece.
    let promised: Int64?
  }

  /// Takes a piece of the log that was read and is sent to the subscriber. Returns nil if it is not what the replay
  /// asked for.
  mutating func take(_ entries: [Entry], for id: SubscriberID) -> Progress? {
    guard let replay = replays[id], let first = entries.first, let last = entries.last,
      first.seq == replay.sent + 1, last.seq <= replay.through,
      last.seq - first.seq == Int64(entries.count - 1)
    else { return nil }
    replays[id]?.sent = last.seq
    guard let promised = replay.promised, replay.sent < promised, last.seq >= promised else {
      return Progress(promised: nil)
    }
    return Progress(promised: promised)
  }

  /// Decides how to continue after the subscriber has taken what it was sent; `lastSeq` is the head. Returns nil if
  /// the subscriber is in no replay.
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
