internal import Access
internal import Basics
internal import Chat
internal import Events
internal import Live
internal import Web

/// Applies the node's event stream to the rooms and sockets of this loop.
extension RoomFeeds {
  /// Applies the events of one commit, in order.
  ///
  /// Events that take access away count at once. Entries and receipts wait while the gate is closed, and those of a
  /// room also while its rules are being read: nothing is delivered by rules that are known to be outdated.
  func apply(_ events: [Event]) {
    var ended: Set<SessionID> = []
    for event in events {
      switch event {
      case .entry(let entry, let origin):
        let isLocal = origin.map(isLocal) ?? false
        if intake.mayPass(entry.roomID) {
          deliver(entry, isLocal ? origin : nil)
        } else {
          intake.take(.entry(entry, origin: isLocal ? origin : nil))
        }
      case .receipt(let receipt):
        if receipt.draft.origin.map(isLocal) ?? false { intake.take(event) }
      case .access(.sessionEnded(let id)): ended.insert(id)
      case .access(.affiliationsChanged(let user, let version)):
        affiliationsChanged(user, version)
      case .access(.roomChanged(let id, let version)): accessChanged(id, version)
      case .access(.invited(let id, let subject, let version)):
        invited(subject, to: id, version)
      case .access(.roomDeleted(let id, _)): handle(id, .changed(nil, concerns: nil))
      case .compared(let begin):
        // The stream announces ended sessions before this event.
        end(ended)
        ended = []
        intake.compared(at: begin)
      case .epochChanged: restart()
      case .missed(let shards): missed(shards)
      case .signal(let signal): take(signal)
      }
    }
    end(ended)
  }

  func isLocal(_ origin: Origin) -> Bool {
    origin.node == services.node && origin.loop == loopIndex
  }

  private func end(_ sessions: Set<SessionID>) {
    if sessions.isEmpty { return }
    // This is rare, and the list of all listeners is short enough for a linear search.
    for listener in listeners.all
    where listener.caller?.sessionID.map(sessions.contains) == true {
      listener.sessionEnded()
    }
  }

  /// The database was replaced or restored from a backup. Nothing that is known of rooms is valid any more, nor any
  /// cursor that clients have. Clients connect again and are told to reload.
  private func restart() {
    for listener in listeners.all { hub.close(listener.connection, .unavailable) }
    intake.forgetAll()
    reader.forgetAll()
    replayReads.forgetAll()
    parked = [:]
    comparisons.forgetAll()
    forgetRooms()
  }

  // MARK: The gate

  /// Whether clients' frames may be served. They may not while this node does not know who may do what.
  var mayServe: Bool { intake.isOpen }

  func gateOpened() {
    var waiting = listeners.all[...]
    // Each listener may have kept hundreds of frames.
    work.perform { [self] in
      if let listener = waiting.popFirst() {
        listener.connection.socket.resumeWriting()
        listener.gateOpened()
        advanceReplays(of: listener.connection.number)
      }
      return !waiting.isEmpty
    }
  }

  // MARK: Entries and receipts

  func perform(_ event: Event) {
    switch event {
    case .entry(let entry, let origin): deliver(entry, origin)
    case .receipt(let receipt): take(receipt)
    default: break
    }
  }

  /// Hot path: an entry that is simply the next one needs no input and no outputs. Two loops that count references to
  /// the same entry at the same time slow each other down, so it is retained as rarely as possible.
  private func deliver(_ entry: Entry, _ origin: Origin?) {
    let served = rooms[entry.roomID]
    if let served {
      if isIdle, served.feed.deliverNext(entry) {
        publish(entry, served)
      } else {
        handle(entry.roomID, .entry(entry))
      }
    }
    guard let origin, let listener = listeners[origin.socket] else { return }
    listener.settled(entry.roomID, stale: nil)
    acknowledge(entry, to: listener, in: served)
  }

  private func take(_ receipt: Receipt) {
    guard let origin = receipt.draft.origin else { return }
    let (draft, socket) = (receipt.draft, origin.socket)
    switch receipt.outcome {
    case .stale: listeners[socket]?.settled(draft.roomID, stale: draft)
    case .known(let entry):
      listeners[socket]?.settled(draft.roomID, stale: nil)
      // It may be in the log without having reached this loop.
      handle(entry.roomID, .head(entry.seq, asOf: 0))
      if let listener = listeners[socket] {
        acknowledge(entry, to: listener, in: rooms[entry.roomID])
      }
    case .conflict: fail(draft, .clientIDConflict, socket)
    case .denied(let code): fail(draft, code, socket)
    case .unavailable: fail(draft, .unavailable, socket)
    }
  }

  private func fail(_ draft: Draft, _ code: ErrorCode, _ socket: UInt64) {
    listeners[socket]?.settled(draft.roomID, stale: nil)
    listeners[socket]?.failed(draft, code)
  }

  /// Acknowledges an entry to its sender, behind the entry's broadcast on the same socket.
  private func acknowledge(
    _ entry: Entry, to listener: any RoomListener, in served: ServedRoom?
  ) {
    let socket = listener.connection.number
    if let served, let lastSeq = served.feed.lastSeq, lastSeq < entry.seq,
      served.feed.isSubscribed(socket)
    {
      served.heldAcks[entry.seq, default: (entry, [])].sockets.append(socket)
    } else {
      listener.committed(entry)
    }
  }

  // MARK: Rooms that changed

  /// Handles a changed room. The feed gets the change before the room is announced to sockets that follow all their
  /// rooms: a socket that may read it only now would be refused by the feed's old rules.
  func accessChanged(_ id: RoomID, _ version: Int64) {
    let isServed = rooms[id] != nil
    guard isServed || !listeners.isEmpty else { return }
    if let room = reader.backend.known(id), room.accessVersion >= version {
      apply(room, to: id)
    } else if isServed {
      reader.served.read(id, version: version)
      reader.others.forget(id)
    } else {
      reader.others.read(id, version: version)
    }
  }

  func apply(_ room: Room, to id: RoomID) {
    if let served = rooms[id] {
      if served.feed.isLoading {
        // The read that is under way may return an older version.
        served.wantedVersion = max(served.wantedVersion, room.accessVersion)
      } else {
        handle(id, .changed(room, concerns: nil))
        let users = served.announced.flatMap { room.usersChanged(since: $0) }
        served.announced = room
        announceReadable(room, to: users)
        return
      }
    }
    announceReadable(room, to: nil)
  }
}
