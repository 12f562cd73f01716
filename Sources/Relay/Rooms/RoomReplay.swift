internal import Basics
internal import Events

/// How far one subscriber of a room has been made whole: pieces of the log, then what was published meanwhile. A
/// value.
struct RoomReplay {
  /// Tells this replay's reads from those of earlier ones, which may still be under way.
  let number: Int
  /// The seq that `resumed` will name: the head when it was asked for.
  let promised: Int64
  /// Up to where the log is being read; `later` goes on from there.
  private(set) var through: Int64
  /// The last entry that was sent.
  private var sent: Int64
  /// What was published since, as far as it is kept.
  private var later: [Entry] = []
  private var laterBytes = 0
  /// Too much came to be kept: the log has it.
  private var isLaterIncomplete = false

  enum Step {
    /// Read these entries, or the first of them.
    case read(after: Int64, through: Int64)
    /// The subscriber has all but these, which were published meanwhile.
    case end([Entry])
  }

  private static let maximumLaterBytes = 64 * 1024

  /// The subscriber has the log up to `last`, and is to have it up to `through`.
  init(number: Int, from last: Int64, through: Int64) {
    self.number = number
    promised = through
    self.through = through
    sent = last
  }

  /// An entry was published: it is kept, if there is not too much of it.
  mutating func keep(_ entry: Entry) {
    laterBytes += entry.cost
    if laterBytes > Self.maximumLaterBytes { isLaterIncomplete = true }
    if !isLaterIncomplete { later.append(entry) }
  }

  /// A piece of the log was read, and is sent. Returns whether that keeps the promise; nil where it is not what was
  /// asked for.
  mutating func take(_ entries: [Entry]) -> Bool? {
    guard let first = entries.first, let last = entries.last, first.seq == sent + 1,
      last.seq <= through, last.seq - first.seq == Int64(entries.count - 1)
    else { return nil }
    defer { sent = last.seq }
    return sent < promised && last.seq >= promised
  }

  /// The subscriber has taken what it was sent; `lastSeq` is where delivery stands.
  mutating func next(lastSeq: Int64) -> Step {
    if sent == through, isLaterIncomplete {
      through = lastSeq
      later = []
      laterBytes = 0
      isLaterIncomplete = false
    }
    return sent < through ? .read(after: sent, through: through) : .end(later)
  }
}
