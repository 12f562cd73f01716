internal import Access
internal import Basics
internal import Chat
internal import Events
internal import Live

/// What sockets ask of the rooms of their loop.
extension RoomFeeds {
  // MARK: Coming and going

  /// From here on the listener is found by its user and entities, and hears of its messages. False
  /// where its session has ended: it is closed.
  func add(_ listener: any RoomListener) -> Bool {
    guard let caller = listener.caller else { return false }
    listeners.add(listener.connection.number, listener, caller)
    return catchUp(listener)
  }

  /// The listener's credential was read a moment ago: tells it what changed since then. False where
  /// its session has ended.
  func catchUp(_ listener: any RoomListener) -> Bool {
    guard let caller = listener.caller else { return false }
    if let session = caller.sessionID, services.authenticator.hasEnded(session) {
      listener.sessionEnded()
      return false
    }
    if let affiliations = caller.affiliations {
      if let known = services.memberships.current(caller.userID) {
        listener.affiliationsChanged(known)
      } else {
        reader.accounts.read(caller.userID, version: affiliations.version)
      }
    }
    return true
  }

  /// Forgets the listener, which has ended and was in these rooms. It leaves some of them at a time, so that
  /// others have their turn; until then what is said to it is said to nobody.
  func remove(_ listener: any RoomListener, from ids: Set<RoomID>) {
    forgetReplays(of: listener.connection.number)
    var rest = ArraySlice(ids)
    work.perform { [self] in
      for id in rest.prefix(roomsLeftPerStep) { detach(listener, from: id) }
      rest = rest.dropFirst(roomsLeftPerStep)
      guard rest.isEmpty else { return true }
      _ = listeners.remove(listener.connection.number, listener.caller)
      hub.remove(listener.connection)
      return false
    }
  }

  /// The listener's claims changed from `old`: rooms that it may not read any more are revoked.
  func renewed(_ listener: any RoomListener, from old: Caller, in ids: Set<RoomID>) {
    guard let caller = listener.caller else { return }
    let number = listener.connection.number
    listeners.move(number, from: old, to: caller)
    for id in ids.sorted() { handle(id, .renew(number, caller)) }
  }

  /// The listener has taken all that was sent to it.
  func drained(_ listener: any RoomListener) { advanceReplays(of: listener.connection.number) }

  // MARK: Subscriptions

  func attach(_ listener: any RoomListener, to id: RoomID, _ purpose: RoomFeed.Purpose) {
    guard let caller = listener.caller else { return }
    handle(id, .attach(listener.connection.number, caller, purpose))
  }

  /// Ends what `attach` began, if it did, and answers after what was asked before.
  func leave(_ listener: any RoomListener, _ id: RoomID, clientID: String?) {
    guard let caller = listener.caller else { return }
    handle(id, .leave(listener.connection.number, caller, clientID: clientID))
  }

  /// Ends what `attach` began; nobody is told.
  func detach(_ listener: any RoomListener, from id: RoomID) {
    guard let served = rooms[id] else { return }
    if let topic = served.topic(listener.kind) {
      hub.unsubscribe(listener.connection, from: topic)
    }
    handle(id, .detach(listener.connection.number))
  }

  func isSubscribed(_ listener: any RoomListener, to id: RoomID) -> Bool {
    rooms[id]?.feed.isSubscribed(listener.connection.number) == true
  }

  /// Whether entries of the room may have been published that the listener was not sent yet.
  func isBehind(_ listener: any RoomListener, in id: RoomID) -> Bool {
    rooms[id]?.feed.isBehind(listener.connection.number) == true
  }

  // MARK: Rooms

  /// Calls back with the room once it is served, at once where it is already; nil where it does not
  /// exist.
  func withRoom(_ id: RoomID, _ body: @escaping (Result<Room?, AppError>) -> Void) {
    let served = served(id)
    if served.feed.isLoading {
      served.waiters.append(body)
    } else {
      body(.success(served.feed.room))
    }
  }

  /// Calls back once all of these rooms are served, or with an error where they could not be read.
  func withRooms(_ ids: [RoomID], _ body: @escaping (AppError?) -> Void) {
    var left = 1
    var failure: AppError?
    func arrived(_ result: Result<Room?, AppError>) {
      if case .failure(let error) = result { failure = error }
      left -= 1
      if left == 0 { body(failure) }
    }
    prepare(ids)
    for id in ids {
      left += 1
      withRoom(id, arrived)
    }
    arrived(.success(nil))
  }

  /// As `withRoom`, with the room as the database has it now. Before that the listener is told what its
  /// account belongs to now.
  func withFreshRoom(
    _ id: RoomID, for listener: any RoomListener,
    _ body: @escaping (Result<Room?, AppError>) -> Void
  ) {
    let number = listener.connection.number
    let affiliations = listener.caller?.affiliations
    let knownVersion = room(id)?.accessVersion ?? 0
    reader.backend.readNow(id, account: affiliations == nil ? nil : listener.caller?.userID) {
      [unowned self] result in
      switch result {
      case .failure(let error): body(.failure(AppError(.unavailable, underlying: error)))
      case .success(let now):
        let hasGoneBack =
          now.room.map { $0.accessVersion < knownVersion } ?? false
          || now.affiliations.map { $0.version < affiliations?.version ?? 0 } ?? false
        if hasGoneBack {
          services.databaseWentBack()
          body(.failure(AppError(.unavailable)))
          return
        }
        if let found = now.affiliations { listeners[number]?.affiliationsChanged(found) }
        if rooms[id] != nil { handle(id, .changed(now.room)) }
        body(.success(now.room))
      }
    }
  }

  // MARK: Frames

  /// A frame to one listener, after what the topic of room `after` has for it so far. `of` names the room
  /// whose content it is, or where the listener stands in.
  func send(
    _ frame: [UInt8], to listener: any RoomListener, after id: RoomID?, of owner: RoomID?
  ) {
    let topic = id.flatMap { rooms[$0]?.topic(listener.kind) }
    let owner = owner.flatMap { rooms[$0]?.topic(listener.kind) }
    hub.send(frame, to: listener.connection, after: topic, of: owner)
  }

  /// As above, a frame that says nothing of rooms or of others: it leaves also while delivery waits.
  func answer(_ frame: [UInt8], to listener: any RoomListener, after id: RoomID?) {
    let topic = id.flatMap { rooms[$0]?.topic(listener.kind) }
    hub.answer(frame, to: listener.connection, after: topic)
  }

  /// An entry to one listener, which the room's topic does not reach.
  func replay(_ entry: Entry, to listener: any RoomListener) {
    var frame = frames.relayEntry(entry, isShared: false)
    if entry.from == listener.caller?.userID { frame = frames.forSender(frame, of: entry) }
    let topic = rooms[entry.roomID]?.topic(listener.kind)
    hub.send(frame, to: listener.connection, of: topic)
  }

  /// Where rooms' logs end now, after what is on its way to the listener of them.
  func sendHeads(_ heads: [RoomHead], to listener: any RoomListener) {
    for (id, _) in heads {
      if let topic = rooms[id]?.topic(listener.kind) { hub.catchUp(listener.connection, topic) }
    }
    hub.send(frames.heartbeat(heads), to: listener.connection)
  }
}
