internal import Basics
internal import Chat
internal import Events
internal import Live

/// Pieces of logs on their way to the sockets that resume.
extension RoomFeeds {
  /// Reads the next piece for a socket that resumes, if it has taken enough of the last; else this is called
  /// again when it has.
  func advanceReplays(of number: UInt64) {
    guard let listener = listeners[number], replays[number] != nil else { return }
    hub.flush(listener.connection)
    guard hub.queuedBytes(of: listener.connection) <= ReplayQueue.pieceBytes else { return }
    switch replays[number]?.next() {
    case .taken(let replay)?:
      handle(replay.room, .replayTaken(number, replay: replay.number))
      // Where that was the end of it, others may wait.
      whenIdle { [unowned self] in advanceReplays(of: number) }
    case .read(let piece)?:
      replayReads.add(piece, for: number)
      readPieces()
    case nil: if replays[number]?.isDone == true { replays[number] = nil }
    }
  }

  private func readPieces() {
    while let (piece, number) = replayReads.next() {
      // The socket may have gone.
      guard replays[number] != nil else { continue }
      let replay = piece.replay
      guard let room = room(replay.room) else {
        // The room is gone meanwhile.
        reader.backend.nextTurn { [unowned self] in take(nil, of: replay, for: number) }
        continue
      }
      replayReads.begun()
      reader.readEntries(of: room, after: piece.after, through: piece.through) {
        [unowned self] entries in
        replayReads.ended()
        take(entries, of: replay, for: number)
        readPieces()
      }
    }
  }

  private func take(_ entries: [Entry]?, of replay: ReplayQueue.Replay, for number: UInt64) {
    guard replays[number] != nil else { return }
    guard !reader.served.contains(replay.room) else {
      // Nothing is sent by rules that are known to be old.
      heldPieces[replay.room, default: []].append((entries, replay, number))
      return
    }
    let fitting = replays[number]?.read(entries)
    handle(replay.room, .replayRead(number, replay: replay.number, fitting))
    // Also where that replay is over meanwhile: others may wait.
    whenIdle { [unowned self] in advanceReplays(of: number) }
  }

  /// The room's rules are known again.
  func releasePieces(of room: RoomID) {
    for piece in heldPieces.removeValue(forKey: room) ?? [] {
      take(piece.entries, of: piece.replay, for: piece.number)
    }
  }

  func forgetReplays(of number: UInt64) { replays[number] = nil }
}

/// Which pieces are read next. So many at a time, or what is read for a crowd that comes at once would take all
/// memory and, when it comes, one long turn of the loop. First come, first served. A value.
struct ReplayReads {
  private var waiting = Queue<(piece: ReplayQueue.Piece, number: UInt64)>()
  private var underWay = 0

  /// So many are read at a time. Tests have less.
  var maximum = 8

  mutating func add(_ piece: ReplayQueue.Piece, for number: UInt64) {
    waiting.append((piece, number))
  }

  /// The next, where one more may be read; `begun` says that it is.
  mutating func next() -> (piece: ReplayQueue.Piece, number: UInt64)? {
    underWay < maximum ? waiting.popFirst() : nil
  }

  mutating func begun() { underWay += 1 }
  mutating func ended() { underWay -= 1 }

  /// Nobody waits any more, and nobody is told of what is being read.
  mutating func forgetAll() {
    waiting = Queue()
    underWay = 0
  }
}
