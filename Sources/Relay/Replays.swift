internal import Basics
internal import Chat
internal import Events
internal import Live

/// Reads the log for sockets that resume: for each a piece at a time, and the next when it has taken
/// that, so that neither its queue nor our memory fills. On the loop only.
final class Replays {
  /// What is missing of one room's log.
  struct Piece {
    let room: RoomID
    /// The replay that it belongs to, as the room's feed counts them.
    let number: Int
    let after: Int64
    let through: Int64
  }

  private struct Queue {
    var waiting: [Piece] = []
    var isReading = false
    /// While a replay is asked for its next piece.
    var isContinuing = false
    /// The replay whose last piece is on its way to the listener.
    var untaken: (room: RoomID, number: Int)?
    /// Entries to read at once, by the size of the last ones.
    var entriesPerPiece: Int64 = 32
  }

  // Unowned: the feeds own this.
  private unowned let feeds: RoomFeeds
  private var queues: [UInt64: Queue] = [:]

  /// Bytes of content in one piece, beyond which its first entry goes alone; and bytes that a listener
  /// may still have to take when it is sent the next.
  private static let pieceBytes = 64 * 1024
  /// What an entry counts at least: its frame is more than its content.
  private static let smallestEntryBytes = 64

  init(feeds: RoomFeeds) { self.feeds = feeds }

  /// Reads a piece for a listener, when its turn has come.
  func add(_ piece: Piece, for number: UInt64) {
    var queue = queues[number] ?? Queue()
    // The room that is being replayed goes first, so that rooms are made whole one after the other.
    queue.waiting.insert(piece, at: queue.isContinuing ? 0 : queue.waiting.count)
    queues[number] = queue
    goOn(number)
  }

  /// A piece is on its way to the listener.
  func sent(_ room: RoomID, _ replay: Int, to number: UInt64) {
    queues[number]?.untaken = (room, replay)
    goOn(number)
  }

  func forget(_ number: UInt64) { queues[number] = nil }

  /// What waited for the gate can be taken now. No socket drains where nothing was written.
  func gateOpened() {
    for number in queues.keys.sorted() { goOn(number) }
  }

  /// Reads the next piece for a listener, if it has room for it; else it is called again when the
  /// listener's queue has drained.
  func goOn(_ number: UInt64) {
    guard let listener = feeds.listener(number), queues[number]?.isReading == false else { return }
    feeds.hub.flush(listener.connection)
    guard feeds.hub.queuedBytes(of: listener.connection) <= Self.pieceBytes else { return }
    if let taken = queues[number]?.untaken {
      queues[number]?.untaken = nil
      queues[number]?.isContinuing = true
      feeds.handle(taken.room, .replayTaken(number, replay: taken.number))
      queues[number]?.isContinuing = false
    }
    // Taking it may have led here and further already.
    guard var queue = queues[number], !queue.isReading, queue.untaken == nil,
      !queue.waiting.isEmpty
    else { return }
    let piece = queue.waiting.removeFirst()
    queue.isReading = true
    queues[number] = queue
    let through = min(piece.through, piece.after + queue.entriesPerPiece)
    feeds.readLog(piece.room, piece.after, through) {
      [weak self] in self?.read(piece, $0, for: number)
    }
  }

  private func read(_ piece: Piece, _ entries: [Entry]?, for number: UInt64) {
    guard var queue = queues[number] else { return }
    queue.isReading = false
    var fitting = entries
    if let entries, !entries.isEmpty {
      fitting = Self.prefix(of: entries)
      let average = entries.reduce(0) { $0 + $1.cost } / entries.count
      queue.entriesPerPiece = Int64(
        max(1, Self.pieceBytes / max(Self.smallestEntryBytes, average)))
    }
    queues[number] = queue
    feeds.handle(piece.room, .replayRead(number, replay: piece.number, fitting))
    // Also where that replay is over meanwhile: others may wait.
    goOn(number)
  }

  /// As many as make one piece; at least one.
  private static func prefix(of entries: [Entry]) -> [Entry] {
    var bytes = 0
    let count = entries.prefix { entry in
      bytes += entry.cost
      return bytes <= pieceBytes
    }.count
    return Array(entries.prefix(max(1, count)))
  }
}
