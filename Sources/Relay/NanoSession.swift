internal import Access
internal import Basics
internal import Chat
internal import EventLoop
internal import Events
internal import Live
internal import Web

/// One socket of `/chat`: carries out what `NanoDialect` decides. On its loop only.
///
/// While a token is checked or a room is selected, later frames wait their turn.
final class NanoSession: WebSocketHandler, RoomListener {
  let connection: Hub.Connection
  private(set) var caller: Caller?
  let dialect = Dialect.nano
  // Unowned: a relay lives as long as its loop, and sockets less.
  private unowned let loop: RelayLoop
  private let services: RelayServices
  private var machine: NanoDialect
  private var allowance: FrameAllowance
  private var waiting = WaitingFrames()
  private var outbox = Outbox()
  private var isBusy = false
  /// The room being selected, until it is known whether it may be.
  private var selecting: RoomID?
  private var readyDue: Int64
  private var isCounted = false
  private var isEnded = false
  /// When a frame that ends the connection is served, whatever is waited for; and that frame.
  private var endDue: (at: Int64, object: JSONObject?)?

  private static let endMilliseconds: Int64 = 500

  init(socket: WebSocket, loop: RelayLoop) {
    self.loop = loop
    services = loop.services
    connection = loop.hub.makeConnection(socket)
    machine = NanoDialect(maximumContentBytes: loop.services.settings.maxContentBytes)
    allowance = FrameAllowance(loop.services.settings)
    readyDue = Monotonic.milliseconds + Int64(loop.services.settings.handshakeSeconds) * 1000
  }

  private var feeds: RoomFeeds { loop.feeds }

  // MARK: WebSocketHandler

  func opened() { reply(.start) }

  func received(text: UnsafeRawBufferPointer) {
    loop.metrics.framesIn.add()
    guard !isEnded else { return }
    guard allowance.take(for: caller?.userID, services.userFrames) else {
      services.metrics.framesRefused.add()
      loop.hub.close(connection, .flooding)
      return
    }
    let object = parseObject(text, maximumDepth: services.settings.maxJSONDepth)
    guard !isBusy, feeds.mayServe, waiting.isEmpty else {
      // Whoever leaves, or does not speak the language, waits for what it sent before, but not long.
      if endDue == nil, NanoDialect.ends(object) {
        endDue = (Monotonic.milliseconds + Self.endMilliseconds, object)
      }
      waiting.add(text, now: Monotonic.milliseconds)
      // What was read already still comes; the rest waits on the client's side.
      if waiting.isFull { connection.socket.setReading(false) }
      return
    }
    serve(object)
  }

  func drained() {}

  /// Before it is ready there is nothing that others said.
  var mayWrite: Bool { caller == nil || feeds.mayServe }

  func receivedBinary() { carryOut(machine.receive(nil)) }

  private func serve(_ object: JSONObject?) {
    if let caller {
      do { try services.authenticator.check(caller) } catch {
        let hasExpired = caller.expiresAt.map { $0 <= .now } ?? false
        loop.hub.close(connection, hasExpired ? .unauthenticated : .revoked)
        return
      }
    }
    carryOut(machine.receive(object))
  }

  func closed() {
    isEnded = true
    waiting = WaitingFrames()
    if isCounted, let caller { services.closeConnection(of: caller.userID) }
    isCounted = false
    feeds.remove(self, from: [machine.room, selecting].compactMap(\.self))
  }

  func tick(now: Int64) {
    if let endDue, now >= endDue.at {
      self.endDue = nil
      carryOut(machine.receive(endDue.object))
    } else if !machine.isReady, now >= readyDue {
      loop.hub.close(connection, .unauthenticated)
    } else if let expiresAt = caller?.expiresAt, expiresAt <= .now {
      loop.hub.close(connection, .unauthenticated)
    } else if feeds.mayServe {
      // Nobody tells a socket without a caller that it may be served again.
      serveWaiting()
    } else {
      refuseOverdue(now: now)
    }
  }

  // MARK: Actions

  private func carryOut(_ actions: [NanoDialect.Action]) {
    for action in actions {
      switch action {
      case .reply(let word): reply(word)
      case .close(.quit): loop.hub.close(connection, .normal)
      case .close(.unauthenticated): loop.hub.close(connection, .unauthenticated)
      case .close(.notJSON): loop.hub.close(connection, .unsupportedData)
      case .authenticate(let token): authenticate(token)
      case .select(let id):
        isBusy = true
        selecting = id
        feeds.attach(self, to: id, .listed)
      case .send(let content): send(content)
      }
    }
  }

  private func reply(_ word: NanoReply) {
    let frame = feeds.frames.nano(word)
    switch word {
    // These say what the caller may do.
    case .ready, .connected: feeds.send(frame, to: self, after: machine.room)
    default: feeds.answer(frame, to: self, after: machine.room)
    }
  }

  /// What waited for a token or a room is over: the frames behind it have their turn.
  private func goOn() {
    isBusy = false
    serveWaiting()
  }

  func gateOpened() { if !isBusy { serveWaiting() } }

  private func serveWaiting() {
    let wasFull = waiting.isFull
    while !isBusy, !isEnded, feeds.mayServe, let frame = waiting.next() {
      serve(
        frame.withUnsafeBytes {
          parseObject($0, maximumDepth: services.settings.maxJSONDepth)
        })
    }
    if wasFull, !waiting.isFull { connection.socket.setReading(true) }
  }

  /// Refuses what has waited for too long while this node may not serve it.
  private func refuseOverdue(now: Int64) {
    guard !isBusy else { return }
    let wasFull = waiting.isFull
    for frame in waiting.takeOverdue(now: now) where !isEnded {
      let object = frame.withUnsafeBytes {
        parseObject($0, maximumDepth: services.settings.maxJSONDepth)
      }
      carryOut(machine.refuse(object))
    }
    if wasFull, !waiting.isFull { connection.socket.setReading(true) }
  }

  // MARK: Token

  private func authenticate(_ token: Secret<String>) {
    isBusy = true
    let session = LoopBound(self, on: loop.loop)
    loop.loop.task { [services] in
      do {
        session.value.accept(try await services.authenticator.authenticate(.bearer(token)))
      } catch {
        session.value.reject(error)
      }
    }
  }

  private func accept(_ new: Caller) {
    guard !isEnded else { return }
    if let old = caller {
      let isSame = old.userID == new.userID
      if isSame {
        caller = new
        feeds.renewed(self, from: old, in: [machine.room].compactMap(\.self))
        guard feeds.catchUp(self) else { return }
      }
      carryOut(machine.tokenAccepted(isSameUser: isSame))
    } else {
      isCounted = services.openConnection(of: new.userID)
      guard isCounted else {
        loop.hub.close(connection, .tooManyConnections)
        return
      }
      caller = new
      guard feeds.add(self) else { return }
      carryOut(machine.tokenAccepted(isSameUser: true))
    }
    goOn()
  }

  private func reject(_ error: any Error) {
    guard !isEnded else { return }
    let isBad = (error as? AppError)?.code.status == 401
    services.logRefusal(error, connection.socket.address)
    carryOut(isBad ? machine.tokenRejected() : machine.tokenUnchecked())
    goOn()
  }

  // MARK: Room

  func admitted(to room: Room, _ purpose: RoomFeed.Purpose, seq: Int64) {
    selecting = nil
    if let old = machine.room, old != room.id { feeds.detach(self, from: old) }
    carryOut(machine.selected(room.id))
    loop.later { [weak self] in self?.goOn() }
  }

  func refused(_ roomID: RoomID, _ purpose: RoomFeed.Purpose, _ code: ErrorCode) {
    selecting = nil
    carryOut(machine.notSelected(code))
    loop.later { [weak self] in self?.goOn() }
  }

  func revoked(_ roomID: RoomID, channelID: String, _ code: ErrorCode) {
    if machine.room == roomID { carryOut(machine.roomLost()) }
  }

  // A nano socket never resumes, and leaves by selecting another room.
  func left(_ roomID: RoomID, seq: Int64, clientID: String?) {}
  func replay(_ entries: [Entry]) {}
  func resumed(_ room: Room, seq: Int64) {}
  func joined(_ room: Room) {}
  func reset(_ room: Room, seq: Int64) {}

  // MARK: Messages

  private func send(_ content: String) {
    guard let caller, let id = machine.room, let room = feeds.room(id) else {
      reply(.unavailable)
      return
    }
    guard let grant = RuleEngine.grantToWrite(caller, in: room) else {
      reply(.notAuthorized)
      return
    }
    submit(
      Draft(
        roomID: id, channelID: room.channelID, from: caller.userID,
        body: .message(MessageContent(type: .text, data: content)), access: .granted(grant),
        origin: Origin(
          node: services.node, loop: loop.loop.index, socket: connection.number)))
  }

  private func submit(_ draft: Draft) {
    switch outbox.decide(draft) {
    case .send: loop.submit(draft)
    case .hold: break
    case .refuse: reply(.unavailable)
    }
  }

  /// The broadcast is the answer.
  func committed(_ entry: Entry, in room: ServedRoom?) {}

  func failed(_ draft: Draft, _ code: ErrorCode) {
    reply(code == .unavailable ? .unavailable : .notAuthorized)
  }

  func settled(_ roomID: RoomID, stale: Draft?) {
    guard outbox.settled(roomID, stale: stale) else { return }
    feeds.withFreshRoom(roomID, for: self) { [weak self] result in
      guard let self, let caller, !isEnded else { return }
      let (drafts, isHopeless) = outbox.takeBack(roomID)
      for draft in drafts {
        switch result {
        case _ where isHopeless: failed(draft, .unavailable)
        case .success(let room?):
          guard let grant = RuleEngine.grantToWrite(caller, in: room) else {
            reply(.notAuthorized)
            continue
          }
          submit(draft.with(.granted(grant)))
        case .success(nil): reply(.notAuthorized)
        case .failure: reply(.unavailable)
        }
      }
    }
  }

  /// A nano socket hears the one room that it selected.
  func offered(_ roomID: RoomID) {}

  func sessionEnded() { loop.hub.close(connection, .revoked) }

  func affiliationsChanged(_ affiliations: Affiliations) {
    guard let old = caller, old.affiliations.map({ $0.version < affiliations.version }) ?? false
    else { return }
    let new = old.with(affiliations)
    caller = new
    if !new.hasSameClaims(as: old) {
      feeds.renewed(self, from: old, in: [machine.room, selecting].compactMap(\.self))
    }
  }

  /// This protocol has no word for it.
  func invited(to room: Room, _ rule: RoomRule) {}
}
