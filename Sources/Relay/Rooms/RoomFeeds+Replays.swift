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
      if !parkIfReloading(.taken(replay), for: number) {
        handle(replay.room, .replayTaken(number, replay: replay.number))
      }
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
      guard replays[number] != nil, !parkIfReloading(of: piece, for: number) else { continue }
      let replay = piece.replay
      guard let room = room(replay.room) else {
        // The room is gone meanwhile.
        reader.backend.nextTurn { [unowned self] in take(nil, of: replay, for: number) }
        continue
      }
      replayReads.didBegin()
      reader.readEntries(of: room, after: piece.after, through: piece.through) {
        [unowned self] entries in
        replayReads.ended()
        if replays[number] != nil, !parkIfReloading(of: piece, for: number) {
          take(entries, of: replay, for: number)
        }
        readPieces()
      }
    }
  }

  private func take(_ entries: [Entry]?, of replay: ReplayQueue.Replay, for number: UInt64) {
    guard replays[number] != nil else { return }
    let fitting = replays[number]?.read(entries)
    handle(replay.room, .replayRead(number, replay: replay.number, fitting))
    // Also where that replay is over meanwhile: others may wait.
    whenIdle { [unowned self] in advanceReplays(of: number) }
  }

  // MARK: Rooms whose rules are read again

  /// Nothing is sent by rules that are known to be old: true where a step has to wait for the room. Other rooms
  /// of the socket go on.
  private func parkIfReloading(_ step: ReplayQueue.Step, for number: UInt64) -> Bool {
    guard reader.served.contains(step.room) else { return false }
    parked[step.room, default: []].append((step, number))
    return true
  }

  /// As above, of a piece whose turn to be read had come, or that was read: it is read again then.
  private func parkIfReloading(of piece: ReplayQueue.Piece, for number: UInt64) -> Bool {
    guard parkIfReloading(.read(piece), for: number) else { return false }
    replays[number]?.readingIsOff()
    // Not now: thousands may follow each other.
    reader.backend.nextTurn { [unowned self] in advanceReplays(of: number) }
    return true
  }

  /// The room's rules are known again.
  func resumeParked(of room: RoomID) {
    for (step, number) in parked.removeValue(forKey: room) ?? [] {
      switch step {
      case .taken(let replay): handle(room, .replayTaken(number, replay: replay.number))
      case .read(let piece): replays[number, default: ReplayQueue()].add(piece)
      }
      whenIdle { [unowned self] in advanceReplays(of: number) }
    }
  }

  /// The socket has gone.
  func forgetReplays(of number: UInt64) {
    replays[number] = nil
    for room in parked.keys { parked[room]?.removeAll { $0.number == number } }
  }
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

  /// The next, where one more may be read; `didBegin` says that it is.
  mutating func next() -> (piece: ReplayQueue.Piece, number: UInt64)? {
    underWay < maximum ? waiting.popFirst() : nil
  }

  mutating func didBegin() { underWay += 1 }
  mutating func ended() { underWay -= 1 }

  /// Nobody waits any more, and nobody is told of what is being read.
  mutating func forgetAll() {
    waiting = Queue()
    underWay = 0
  }
}
