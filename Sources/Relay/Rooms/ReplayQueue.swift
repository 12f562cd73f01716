internal import Basics
internal import Events

/// The log entries that one resuming socket is still to be sent. They go out piece by piece, each when the socket has
/// taken the one before, so that neither the socket's queue nor memory fills up. A value, without socket or database.
///
/// Rooms are completed one after the other: the room that was sent last continues first.
struct ReplayQueue {
  /// A replay of a room's feed.
  struct Replay: Equatable {
    let room: RoomID
    /// The number that the room's feed gave this replay.
    let number: Int
  }

  /// A range of one room's log that is still to be read.
  struct Piece {
    let replay: Replay
    let after: Int64
    let through: Int64
  }

  enum Step {
    /// Tell the room's feed that the socket has taken what it was sent.
    case taken(Replay)
    /// Read these entries, or only the first of them, and pass them to `read`.
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
  /// The replay whose last piece the socket has not taken yet.
  private var untaken: Replay?
  /// The replay that was last told to continue.
  private var current: Replay?
  /// How many entries to read at once, estimated from the size of the last ones.
  private var entriesPerPiece: Int64 = 32

  /// The most memory that one piece takes, unless its first entry alone takes more. Also the most bytes that a socket
  /// may still have queued when it is sent the next piece.
  static let pieceBytes = 64 * 1024
  /// The least that an entry counts, because its frame is larger than its content.
  private static let smallestEntryBytes = 64

  /// Whether nothing waits, is being read, or is on its way.
  var isDone: Bool { !isReading && untaken == nil && continuation == nil && waiting.isEmpty }

  mutating func add(_ piece: Piece) {
    if piece.replay == current { continuation = piece } else { waiting.append(piece) }
  }

  /// A piece of this replay has been handed to the socket.
  mutating func sent(_ replay: Replay) { untaken = replay }

  /// What to do now that the socket's queue is nearly empty. Nil while something is being read, and if nothing waits.
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

  /// The piece that `next` returned is not read now. Other pieces may be.
  mutating func readingIsOff() { isReading = false }

  /// Takes what was read, or nil if the read failed. Returns as much of it as one piece may hold, but at least one
  /// entry.
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
