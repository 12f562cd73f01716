internal import Basics
internal import Chat
internal import Events
internal import Live

/// Parts of logs on their way to sockets that resume.
extension RoomFeeds {
  /// Reads the next part for a socket that resumes, if the socket has taken enough of the last one. Otherwise this is
  /// called again when it has.
  func advanceReplays(of number: UInt64) {
    guard let listener = listeners[number], replays[number] != nil else { return }
    hub.flush(listener.connection)
    guard hub.queuedBytes(of: listener.connection) <= ReplayQueue.pieceBytes else { return }
    switch replays[number]?.next() {
    case .taken(let replay)?:
      if !parkIfReloading(.taken(replay), for: number) {
        handle(replay.room, .replayTaken(number, replay: replay.number))
      }
      // If the replay ended with this, other sockets may be waiting for their turn.
      whenIdle { [unowned self] in advanceReplays(of: number) }
    case .read(let piece)?:
      replayReads.add(piece, for: number)
      readPieces()
    case nil: if replays[number]?.isDone == true { replays[number] = nil }
    }
  }

  private func readPieces() {
    while let (piece, number) = replayReads.next() {
      // The socket may have closed.
      guard replays[number] != nil, !parkIfReloading(of: piece, for: number) else { continue }
      let replay = piece.replay
      guard let room = room(replay.room) else {
        // The room was deleted meanwhile.
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
    // Even if this replay has ended meanwhile: other sockets may be waiting.
    whenIdle { [unowned self] in advanceReplays(of: number) }
  }

  // MARK: Rooms whose rules are being read

  /// Returns true if the step has to wait because the room's rules are being read again: nothing is sent by rules
  /// that are known to be outdated. The socket's other rooms are not held up.
  private func parkIfReloading(_ step: ReplayQueue.Step, for number: UInt64) -> Bool {
    guard reader.served.contains(step.room) else { return false }
    parked[step.room, default: []].append((step, number))
    return true
  }

  /// The same for a part that was about to be read, or that was read: it is read again later.
  private func parkIfReloading(of piece: ReplayQueue.Piece, for number: UInt64) -> Bool {
    guard parkIfReloading(.read(piece), for: number) else { return false }
    replays[number]?.readingIsOff()
    // Not at once, to limit the depth of the stack: thousands of parts may follow each other.
    reader.backend.nextTurn { [unowned self] in advanceReplays(of: number) }
    return true
  }

  /// Continues with the steps that waited for the room's rules.
  func resumeParked(of room: RoomID) {
    for (step, number) in parked.removeValue(forKey: room) ?? [] {
      switch step {
      case .taken(let replay): handle(room, .replayTaken(number, replay: replay.number))
      case .read(let piece): replays[number, default: ReplayQueue()].add(piece)
      }
      whenIdle { [unowned self] in advanceReplays(of: number) }
    }
  }

  /// Forgets a socket that has closed.
  func forgetReplays(of number: UInt64) {
    replays[number] = nil
    for room in parked.keys { parked[room]?.removeAll { $0.number == number } }
  }
}

/// Chooses which parts are read next. The number of concurrent reads is limited. Otherwise a crowd that reconnects at
/// once would need all memory, and its answers would block the loop for a long turn. First come, first served. A
/// value.
struct ReplayReads {
  private var waiting = Queue<(piece: ReplayQueue.Piece, number: UInt64)>()
  private var underWay = 0

  /// The number of concurrent reads. Tests use fewer.
  var maximum = 8

  mutating func add(_ piece: ReplayQueue.Piece, for number: UInt64) {
    waiting.append((piece, number))
  }

  /// The next part to read, if another read may begin. The caller reports the beginning with `didBegin`.
  mutating func next() -> (piece: ReplayQueue.Piece, number: UInt64)? {
    underWay < maximum ? waiting.popFirst() : nil
  }

  mutating func didBegin() { underWay += 1 }
  mutating func ended() { underWay -= 1 }

  /// Forgets all waiting sockets; results of reads that are under way are dropped.
  mutating func forgetAll() {
    waiting = Queue()
    underWay = 0
  }
}
