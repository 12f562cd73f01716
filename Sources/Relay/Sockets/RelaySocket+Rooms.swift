internal import Access
internal import Basics
internal import Chat
internal import Events
internal import Live
internal import Web

/// The messages that a socket writes to rooms, and the notifications about its rooms and its account.
extension RelaySocket: RoomListener {
  var kind: DialectKind { Dialect.kind }

  // MARK: Messages

  func write(_ message: OutgoingMessage) {
    if let room = feeds.room(message.roomID) {
      write(message, in: room)
      return
    }
    feeds.withRoom(message.roomID) { [weak self] result in
      guard let self, !isEnded else { return }
      switch result {
      case .success(let room?): write(message, in: room)
      case .success(nil): fail(message, .roomNotFound)
      case .failure(let error): fail(message, error.code)
      }
    }
  }

  private func write(_ message: OutgoingMessage, in room: Room) {
    guard let caller, let step = sender.write(message, in: room, as: caller) else { return }
    perform(step)
  }

  private func fail(_ message: OutgoingMessage, _ code: ErrorCode) {
    handle(.failed(channelID: message.channelID, clientID: message.clientID, code))
  }

  private func perform(_ step: Sender.Step) {
    switch step {
    case .submit(let draft): relay.submit(draft)
    case .refuse(let draft, let code): failed(draft, code)
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
