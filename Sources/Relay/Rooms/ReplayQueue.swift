internal import Basics
internal import Events

/// What one socket is to be sent of the log: a piece at a time, and the next when it has taken that, so
/// that neither its queue nor our memory fills. A value, without socket or database.
///
/// Rooms are made whole one after the other: the next piece of the room that was sent last goes first.
struct ReplayQueue {
  /// A replay of a room's feed.
  struct Replay: Equatable {
    let room: RoomID
    /// As the room's feed counts its replays.
    let number: Int
  }

  /// What is missing of one room's log.
  struct Piece {
    let replay: Replay
    let after: Int64
    let through: Int64
  }

  enum Step {
    /// Tell the room's feed that the socket has taken what it was sent.
    case taken(Replay)
    /// Read these entries, or the first of them, and give them to `read`.
    case read(Piece)

    var room: RoomID {
      switch self {
      case .taken(let replay): replay.room
      case .read(let piece): piece.replay.room
      }
    }
  }

  private var waiting = Queue<Piece>()
  /// The next piece of the room that was sent last.
  private var continuation: Piece?
  private var isReading = false
  /// The replay whose last piece is on its way to the socket.
  private var untaken: Replay?
  /// The replay that was last told to go on.
  private var current: Replay?
  /// Entries to read at once, by the size of the last ones.
  private var entriesPerPiece: Int64 = 32

  /// What one piece takes of memory at most, unless its first entry alone takes more; and bytes that a socket
  /// may still have to take when it is sent the next.
  static let pieceBytes = 64 * 1024
  /// What an entry counts at least: its frame is more than its content.
  private static let smallestEntryBytes = 64

  /// Whether nothing waits, is read, or is on its way.
  var isDone: Bool { !isReading && untaken == nil && continuation == nil && waiting.isEmpty }

  mutating func add(_ piece: Piece) {
    if piece.replay == current { continuation = piece } else { waiting.append(piece) }
  }

  /// A piece of this replay is on its way to the socket.
  mutating func sent(_ replay: Replay) { untaken = replay }

  /// What to do now that the socket has little or nothing to take; nil while something is being read, and
  /// where nothing waits.
  mutating func next() -> Step? {
    guard !isReading else { return nil }
    if let taken = untaken {
      untaken = nil
      current = taken
      return .taken(taken)
    }
    guard let piece = continuation ?? waiting.popFirst() else { return nil }
    continuation = nil
    isReading = true
    return .read(
      Piece(
        replay: piece.replay, after: piece.after,
        through: min(piece.through, piece.after + entriesPerPiece)))
  }

  /// The piece that `next` said is not read now; others may be.
  mutating func readingIsOff() { isReading = false }

  /// What was read; nil where it could not be. Returns as much of it as makes one piece, at least one entry.
  mutating func read(_ entries: [Entry]?) -> [Entry]? {
    isReading = false
    guard let entries, !entries.isEmpty else { return entries }
    let average = entries.reduce(0) { $0 + $1.cost } / entries.count
    entriesPerPiece = Int64(max(1, Self.pieceBytes / max(Self.smallestEntryBytes, average)))
    var bytes = 0
    let count = entries.prefix { entry in
      bytes += entry.cost
      return bytes <= Self.pieceBytes
    }.count
    return Array(entries.prefix(max(1, count)))
  }
}
