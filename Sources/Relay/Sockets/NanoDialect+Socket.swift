internal import Basics
internal import Chat
internal import Events
internal import Web

/// Connects the nano protocol to a socket: passes inputs to the dialect, and translates its decisions into socket
/// actions.
///
/// While a room is being selected, later frames wait.
extension NanoDialect: SocketDialect {
  static let kind = DialectKind.nano
  /// This protocol has no frame that reports a refusal, so the socket is closed at the first one.
  static let maximumRefusals = 1

  var isBusy: Bool { selecting != nil }
  var rooms: Set<RoomID> { Set([room, selecting].compactMap(\.self)) }
  var tickDue: Int64? { isReady ? nil : readyDue }

  mutating func handle(_ input: SocketInput, _ view: some SocketView) -> [SocketAction] {
    switch input {
    case .opened: return actions([.reply(.start)])
    case .frame(let object): return actions(receive(object))
    case .refused(let object, _): return actions(refuse(object))
    case .binary: return actions(receive(nil))
    case .tokenAccepted: return actions(tokenAccepted(isSameUser: true))
    case .tokenOfAnotherUser: return actions(tokenAccepted(isSameUser: false))
    case .tokenRefused(let code):
      return actions(code.status == 401 ? tokenRejected() : tokenUnchecked())
    case .room(let notification): return receive(notification)
    case .failed(_, _, let code):
      return actions([.reply(code == .unavailable ? .unavailable : .notAuthorized)])
    case .tick:
      return !isReady && view.now >= readyDue ? [.close(.unauthenticated)] : []
    // A message is answered by its broadcast, not by an ack. The protocol has no frames for the other inputs.
    case .committed, .listed, .notListed, .loaded, .resolved, .examined, .watching, .claimsChanged,
      .invited,
      .expiring:
      return []
    }
  }

  private mutating func receive(_ notification: RoomNotification) -> [SocketAction] {
    switch notification {
    case .admitted(let admitted, _, _):
      let old = room
      let selected = actions(selected(admitted.id))
      guard let old, old != admitted.id else { return selected }
      return [.detach(old)] + selected
    case .refused(_, _, let code): return actions(notSelected(code))
    case .revoked(let id, _, _): return id == room ? actions(roomLost()) : []
    // A nano socket never resumes. It leaves a room by selecting another, and hears only the one that it selected.
    case .left, .replayed, .resumed, .joined, .reset, .becameReadable: return []
    }
  }

  private func actions(_ actions: [Action]) -> [SocketAction] {
    actions.map { action in
      switch action {
      // These two replies reveal what the caller may do, so they wait while delivery is stopped.
      case .reply(.ready): .send(.nano(.ready), after: room)
      case .reply(.connected): .send(.nano(.connected), after: room)
      case .reply(let word): .answer(.nano(word), after: room)
      case .close(.quit): .close(.normal)
      case .close(.unauthenticated): .close(.unauthenticated)
      case .close(.notJSON): .close(.unsupportedData)
      case .authenticate(let token): .authenticate(token)
      case .select(let id): .attach([id], .listed)
      case .send(let content): write(content)
      }
    }
  }

  private func write(_ content: String) -> SocketAction {
    guard let room else { return .answer(.nano(.roomNeeded)) }
    return .write(
      OutgoingEntry(
        roomID: room, channelID: room.description,
        body: .message(MessageContent(type: .text, data: content)), clientID: nil))
  }
}
