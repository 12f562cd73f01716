internal import Access
internal import Basics
internal import Chat
internal import Events
internal import Live
internal import Web

/// The entries that a socket writes to rooms, and the notifications about its rooms and its account.
extension RelaySocket: RoomListener {
  var kind: DialectKind { Dialect.kind }
  var isReady: Bool { dialect.isReady }

  // MARK: Entries

  /// Checks what an entry refers to outside of its room.
  func examine(_ entry: OutgoingEntry) {
    guard let caller else { return }
    relay.backend.examine(entry.body, in: entry.roomID, as: caller) {
      [weak self, services] result in
      guard let self, !isEnded else { return }
      var examined = entry
      switch result {
      case .success(let body): examined.body = body
      case .failure(let error as AppError): examined.refusal = error.detailedCode
      case .failure(let error):
        services.log.warning("references_not_read", ["cause": .init("\(error)")])
        examined.refusal = .unavailable
      }
      handle(.examined(examined))
      serveWaiting()
    }
  }

  func write(_ entry: OutgoingEntry) {
    if let room = feeds.room(entry.roomID) {
      write(entry, in: room)
      return
    }
    feeds.withRoom(entry.roomID) { [weak self] result in
      guard let self, !isEnded else { return }
      switch result {
      case .success(let room?): write(entry, in: room)
      case .success(nil): fail(entry, .roomNotFound)
      case .failure(let error): fail(entry, error.code)
      }
    }
  }

  private func write(_ entry: OutgoingEntry, in room: Room) {
    guard let caller else { return }
    // Who names the other one of a dialog means the dialog.
    if let recipient = entry.recipient, room.recipient(of: caller.userID) != recipient {
      let isMember = RuleEngine.standing(of: caller, in: room).isMember
      fail(entry, isMember ? .recipientNotInTeam : .roomNotFound)
      return
    }
    guard let step = sender.write(entry, in: room, as: caller) else { return }
    perform(step)
  }

  private func fail(_ entry: OutgoingEntry, _ code: ErrorCode) {
    handle(.failed(channelID: entry.channelID, clientID: entry.clientID, code))
  }

  private func perform(_ step: Sender.Step) {
    switch step {
    case .submit(let draft): relay.submit(draft)
    case .refuse(let draft, let code): failed(draft, code)
    }
  }

  // MARK: Marks and typing

  func markRead(_ id: RoomID, _ seq: Int64, _ channel: String, _ clientID: String?) {
    guard let caller else { return }
    let origin = Origin(
      node: services.node, loop: relay.index, socket: connection.number)
    relay.backend.markRead(seq, in: id, by: caller, origin: origin) {
      [weak self, services] result in
      guard let self, !isEnded, case .failure(let error) = result else { return }
      let failure = error as? AppError
      if failure == nil { services.log.warning("mark_not_moved", ["cause": .init("\(error)")]) }
      handle(
        .failed(
          channelID: channel, clientID: clientID, failure?.detailedCode ?? .unavailable))
    }
  }

  func typing(_ id: RoomID, _ channel: String, _ clientID: String?) {
    feeds.withRoom(id) { [weak self] result in
      guard let self, !isEnded, let caller else { return }
      switch result {
      case .success(let room?):
        if RuleEngine.standing(of: caller, in: room).permissions.contains(.write) {
          if feeds.typing.allows(id, caller.userID, now: now) {
            services.tell([TypingSignal(room: id, user: caller.userID).signal])
          }
        } else {
          let code = RuleEngine.refusalToWrite(caller, in: room)
          handle(.failed(channelID: channel, clientID: clientID, code))
        }
      case .success(nil):
        handle(.failed(channelID: channel, clientID: clientID, .roomNotFound))
      case .failure(let error):
        handle(.failed(channelID: channel, clientID: clientID, error.code))
      }
    }
  }

  // MARK: Presence

  func watch(_ users: [UserID], _ clientID: String?) {
    relay.presence.watch(users, by: self) { [weak self, services] result in
      guard let self, !isEnded else { return }
      switch result {
      case .success(let people): handle(.watching(people))
      case .failure(let error):
        services.log.warning("watched_not_found", ["cause": .init("\(error)")])
        handle(.failed(channelID: nil, clientID: clientID, .unavailable))
      }
      serveWaiting()
    }
  }

  // MARK: RoomListener

  func receive(_ notification: RoomNotification) { handle(.room(notification)) }
  func committed(_ entry: Entry) { handle(.committed(entry)) }

  func failed(_ draft: Draft, _ code: ErrorCode) {
    handle(.failed(channelID: draft.channelID, clientID: draft.clientID, code))
  }

  func settled(_ roomID: RoomID, stale: Draft?) {
    guard sender.settled(roomID, stale: stale) else { return }
    feeds.withFreshRoom(roomID, for: self) { [weak self] result in
      guard let self, !isEnded, let caller else { return }
      for step in sender.checkAgain(roomID, result, as: caller) { perform(step) }
    }
  }

  func sessionEnded() { relay.hub.close(connection, .revoked) }

  func affiliationsChanged(_ affiliations: Affiliations) {
    if let new = credential.joined(affiliations) { use(new) }
  }

  func invited(to room: Room, _ rule: RoomRule) { handle(.invited(room, rule)) }

  func gateOpened() { serveWaiting() }
}

extension AppError {
  /// The code, with everything that the error says in its meaning.
  fileprivate var detailedCode: ErrorCode {
    if details.isEmpty { return code }
    return code.saying(details.map { "\($0.field) \($0.message)." }.joined(separator: " "))
  }
}
