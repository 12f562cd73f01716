internal import Access
internal import Basics
internal import Chat
internal import Events
internal import Live

/// What sockets ask of the rooms of their loop.
extension RoomFeeds {
  // MARK: Listeners

  /// Adds a listener. From here on it is found by its user and entities, and is told the outcome of its messages.
  /// Returns false if its session has ended; it is closed then.
  func add(_ listener: any RoomListener) -> Bool {
    guard let caller = listener.caller else { return false }
    listeners.add(listener.connection.number, listener, caller)
    return catchUp(listener)
  }

  /// Tells the listener what has changed since its credential was read a moment ago. Returns false if its session has
  /// ended.
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

  /// Removes a listener that has ended and was in these rooms. It leaves some of them at a time, so that others get
  /// their turn. Until then, what is sent to it is dropped.
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

  /// The listener's claims have changed from `old`. Rooms that it may not read any more are revoked.
  func renewed(_ listener: any RoomListener, from old: Caller, in ids: Set<RoomID>) {
    guard let caller = listener.caller else { return }
    let number = listener.connection.number
    listeners.move(number, from: old, to: caller)
    for id in ids.sorted() { handle(id, .renew(number, caller)) }
  }

  /// The kernel has accepted everything that was queued for the listener.
  func drained(_ listener: any RoomListener) { advanceReplays(of: listener.connection.number) }

  // MARK: Subscriptions

  func attach(_ listener: any RoomListener, to id: RoomID, _ purpose: RoomFeed.Purpose) {
    guard let caller = listener.caller else { return }
    handle(id, .attach(listener.connection.number, caller, purpose))
  }

  /// Ends a subscription, if there is one, and answers after all earlier requests.
  func leave(_ listener: any RoomListener, _ id: RoomID, clientID: String?) {
    guard let caller = listener.caller else { return }
    handle(id, .leave(listener.connection.number, caller, clientID: clientID))
  }

  /// Ends a subscription without an answer.
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

  /// Whether entries of the room may have been published that the listener has not been sent.
  func isBehind(_ listener: any RoomListener, in id: RoomID) -> Bool {
    rooms[id]?.feed.isBehind(listener.connection.number) == true
  }

  // MARK: Rooms

  /// Calls `body` with the room once it is served, at once if it is already; with nil if it does not exist.
  func withRoom(_ id: RoomID, _ body: @escaping (Result<Room?, AppError>) -> Void) {
    let served = served(id)
    if served.feed.isLoading {
      served.waiters.append(body)
    } else {
      body(.success(served.feed.room))
    }
  }

  /// Calls `body` once all of these rooms are served, or with an error if they could not be read.
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

  /// The same as `withRoom`, but reads the room from the database. Before that, the listener is told its account's
  /// present memberships.
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
        if rooms[id] != nil { handle(id, .changed(now.room, concerns: nil)) }
        body(.success(now.room))
      }
    }
  }

  // MARK: Frames

  func encode(_ frame: SocketFrame) -> [UInt8] {
    frames.frame(frame, channelID: channelID(of:))
  }

  /// Sends a frame to one listener, after everything that the topic of room `after` holds for it. `of` names the room
  /// whose content it carries, or in which the listener stands.
  func send(
    _ frame: [UInt8], to listener: any RoomListener, after id: RoomID?, of owner: RoomID?
  ) {
    let topic = id.flatMap { rooms[$0]?.topic(listener.kind) }
    let owner = owner.flatMap { rooms[$0]?.topic(listener.kind) }
    hub.send(frame, to: listener.connection, after: topic, of: owner)
  }

  /// The same for a frame that tells nothing about rooms or other people: it is sent even while delivery is stopped.
  func answer(_ frame: [UInt8], to listener: any RoomListener, after id: RoomID?) {
    let topic = id.flatMap { rooms[$0]?.topic(listener.kind) }
    hub.answer(frame, to: listener.connection, after: topic)
  }

  /// Sends an entry to one listener that the room's topic does not reach.
  func replay(_ entry: Entry, to listener: any RoomListener) {
    var frame = frames.relayEntry(entry, isShared: false)
    if let user = listener.caller?.userID {
      if entry.from == user {
        frame = frames.forSender(frame, of: entry)
      } else if rooms[entry.roomID]?.notified(of: entry).contains(user) == true {
        frame = frames.notifying(frame)
      }
    }
    let topic = rooms[entry.roomID]?.topic(listener.kind)
    hub.send(frame, to: listener.connection, of: topic)
  }

  /// Sends the heads of rooms, after everything of these rooms that is on its way to the listener.
  func sendHeads(_ heads: [RoomHead], to listener: any RoomListener) {
    for (id, _) in heads {
      if let topic = rooms[id]?.topic(listener.kind) { hub.catchUp(listener.connection, topic) }
    }
    hub.send(frames.heartbeat(heads, channelID(of:)), to: listener.connection)
  }
}
