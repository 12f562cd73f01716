internal import Access
internal import Basics
internal import Chat
internal import EventLoop
internal import Events
internal import Live
internal import Web

/// One socket of either protocol: takes its frames in, asks its dialect, carries out what that decides.
/// On its loop only.
final class RelaySocket<Dialect: SocketDialect>: WebSocketHandler {
  let connection: Hub.Connection
  // Unowned: a relay lives as long as its loop, and sockets less.
  unowned let relay: RelayLoop
  private(set) var dialect: Dialect
  private var intake: FrameIntake
  var credential: CredentialWatch
  var sender: Sender
  /// A token is checked; what comes behind it is served with the claims that it brings.
  private var isCheckingToken = false
  /// Whether frames that waited are being served now.
  private var isServing = false
  /// Whether actions are being carried out: frames that wait are served behind all of them.
  private var isCarryingOut = false
  /// What a frame that names very many rooms still brings.
  private var unfinished = PendingActions()
  /// Held as long as this.
  private let permit: SocketAdmission.Permit?
  /// Whether it counts among its user's connections.
  private var isCounted = false
  private(set) var isEnded = false

  /// `caller` is nil where the client shows its token later.
  init(
    socket: any FrameSink, relay: RelayLoop, caller: Caller?, permit: SocketAdmission.Permit? = nil,
    dialect: Dialect
  ) {
    self.relay = relay
    self.permit = permit
    self.dialect = dialect
    connection = relay.hub.makeConnection(socket)
    intake = FrameIntake(
      FrameAllowance(
        relay.services.configuration.connectionFrames, now: relay.backend.nanoseconds))
    credential = CredentialWatch(caller, now: relay.backend.now)
    sender = Sender(
      origin: Origin(
        node: relay.services.node, loop: relay.index, socket: connection.number))
  }

  var services: RelayServices { relay.services }
  var feeds: RoomFeeds { relay.feeds }

  // MARK: WebSocketHandler

  func opened() {
    relay.takeEvents()
    if let caller, !enter(caller) { return }
    handle(.opened)
  }

  /// The socket is this caller's from here on; false where it was closed instead.
  private func enter(_ caller: Caller) -> Bool {
    isCounted = services.openConnection(of: caller.userID)
    guard isCounted else {
      relay.hub.close(connection, .tooManyConnections)
      return false
    }
    return feeds.add(self)
  }

  func received(text: UnsafeRawBufferPointer) {
    relay.metrics.framesIn.add()
    relay.takeEvents()
    guard !isEnded else { return }
    if isFree, !intake.hasWaiting {
      serve(parse(text))
      return
    }
    if let ends = Dialect.ends {
      // Whoever leaves, or does not speak the language, waits for what it sent before, but not long.
      let object = parse(text)
      if ends(object) { intake.willEnd(object, now: now) }
    }
    intake.wait(text, now: now)
    adjustReading()
    setTick()
  }

  func receivedBinary() { handle(.binary) }

  func drained() {
    relay.hub.drained(connection)
    feeds.drained(self)
  }

  /// Before anyone is there, nothing waits that others said.
  var mayWrite: Bool { caller == nil || feeds.mayServe }

  func closed() {
    isEnded = true
    unfinished.removeAll()
    intake.removeAll()
    if isCounted, let caller { services.closeConnection(of: caller.userID) }
    isCounted = false
    feeds.remove(self, from: dialect.rooms)
  }

  func tick(now: Int64) {
    switch credential.expiry(at: .now, mayAnnounce: !dialect.isBusy) {
    case .notYet: break
    case .soon(let seconds): handle(.expiring(inSeconds: seconds))
    case .over:
      relay.hub.close(connection, .unauthenticated)
      return
    }
    if let ending = intake.takeEnding(now: now) {
      handle(.frame(ending.object))
    } else if intake.hasWaiting, !feeds.mayServe {
      refuseOverdue(now: now)
    } else {
      // Nobody tells a socket without a caller that it may be served again.
      serveWaiting()
    }
    if let caller, credential.takeUseDue(now: now) { services.authenticator.noteUse(of: caller) }
    if let due = dialect.tickDue, now >= due { handle(.tick) }
  }

  var tickDue: Int64 {
    let now = now
    var due = credential.due(now: now, at: .now)
    if let waiting = intake.due(now: now) { due = min(due, waiting) }
    if let dialect = dialect.tickDue { due = min(due, dialect) }
    // What is overdue and waits for something else is looked at again soon, not at once.
    return max(due, now + Self.shortestTickMilliseconds)
  }

  private static var shortestTickMilliseconds: Int64 { 100 }

  /// Where `tickDue` may have come nearer.
  private func setTick() { connection.socket.tick(by: tickDue) }

  // MARK: Frames

  /// Whether the next frame may be served now.
  private var isFree: Bool {
    !isCheckingToken && !dialect.isBusy && unfinished.isEmpty && !isEnded && feeds.mayServe
  }

  private func parse(_ text: UnsafeRawBufferPointer) -> JSONObject? {
    parseObject(text, maximumDepth: services.configuration.jsonDepth)
  }

  private func serve(_ object: JSONObject?) {
    guard isCredentialValid() else { return }
    let isWithinRate = intake.take(now: relay.backend.nanoseconds) { [services, caller] in
      caller.flatMap { services.userFrames?.take($0.userID) } == nil
    }
    guard isWithinRate else {
      services.metrics.framesRefused.add()
      if intake.refusals >= Dialect.maximumRefusals {
        relay.hub.close(connection, .flooding)
      } else {
        handle(.refused(object, .rateLimited))
      }
      return
    }
    handle(.frame(object))
  }

  /// Serves what waited, until something has to be waited for again.
  func serveWaiting() {
    guard !isServing, !isCarryingOut else { return }
    isServing = true
    defer { isServing = false }
    while isFree, let frame = intake.next() { serve(frame.withUnsafeBytes { parse($0) }) }
    adjustReading()
  }

  /// Refuses what has waited for too long while this node may not serve it.
  private func refuseOverdue(now: Int64) {
    guard !isCheckingToken, !dialect.isBusy else { return }
    for frame in intake.takeOverdue(now: now) where !isEnded {
      handle(.refused(frame.withUnsafeBytes { parse($0) }, .unavailable))
    }
    adjustReading()
  }

  private func adjustReading() {
    if let isReading = intake.changeOfReading() { connection.socket.setReading(isReading) }
  }

  // MARK: The dialect

  /// Tells the dialect, and does what it decides.
  func handle(_ input: SocketInput) {
    guard !isEnded else { return }
    let actions = dialect.handle(input, self)
    if !unfinished.isEmpty, input.mayTakeTurns {
      unfinished.append(actions)
    } else if input.mayTakeTurns, PendingActions.size(of: actions) > relay.stepSize {
      unfinished.append(actions)
      // Weak: it may be closed and gone before its turn comes.
      relay.work.perform { [weak self] in self?.performNext() ?? false }
    } else {
      perform(actions)
      serveWaitingWhenFree()
    }
  }

  /// Carries out the next of many actions; returns whether there are more.
  private func performNext() -> Bool {
    // They count as unfinished meanwhile: no other frame is served between them.
    perform(unfinished.next(relay.stepSize))
    unfinished.performed()
    guard unfinished.isEmpty else { return true }
    // The next frame may bring as much: then it takes a turn of its own.
    serveWaitingWhenFree()
    return false
  }

  private func perform(_ actions: [SocketAction]) {
    // An action may bring inputs, and those more actions.
    let isWithin = isCarryingOut
    isCarryingOut = true
    defer { isCarryingOut = isWithin }
    for action in actions {
      // An action may close the socket.
      guard !isEnded else { return }
      perform(action)
    }
  }

  /// What waited for this may go on, once all that is being carried out now is done.
  private func serveWaitingWhenFree() {
    guard intake.hasWaiting, !isServing, !isCarryingOut, isFree else { return }
    feeds.whenIdle { [weak self] in self?.serveWaiting() }
  }

  private func perform(_ action: SocketAction) {
    switch action {
    case .send(let frame, let room, let owner):
      feeds.send(feeds.frames.frame(frame), to: self, after: room, of: owner)
    case .answer(let frame, let room):
      feeds.answer(feeds.frames.frame(frame), to: self, after: room)
    case .replay(let entry): feeds.replay(entry, to: self)
    case .sendHeads(let heads): feeds.sendHeads(heads, to: self)
    case .cork: relay.hub.cork(connection)
    case .uncork(let frame): relay.hub.uncork(connection, first: feeds.frames.frame(frame))
    case .close(let code): relay.hub.close(connection, code)
    case .authenticate(let token): authenticate(token)
    case .list: list()
    case .load(let ids):
      feeds.withRooms(ids) { [weak self] in self?.handle(.loaded($0)) }
    case .prepare(let ids): feeds.prepare(ids)
    case .attach(let ids, let purpose):
      for id in ids where !isEnded { feeds.attach(self, to: id, purpose) }
    case .leave(let ids, let clientID):
      for id in ids where !isEnded { feeds.leave(self, id, clientID: clientID) }
    case .detach(let id): feeds.detach(self, from: id)
    case .write(let message): write(message)
    case .charge(let frames): intake.charge(frames)
    }
  }

  private func list() {
    guard let caller else { return }
    relay.backend.listRooms(of: caller) { [weak self, services] result in
      switch result {
      case .success(let found): self?.handle(.listed(found.ids, hasMore: found.hasMore))
      case .failure(let error):
        services.log.warning("rooms_not_listed", ["cause": .init("\(error)")])
        self?.handle(.notListed)
        self?.setTick()
      }
    }
  }

  // MARK: Credentials

  /// Closes the socket where its credential has ended.
  private func isCredentialValid() -> Bool {
    guard let caller else { return true }
    do {
      try services.authenticator.check(caller)
      return true
    } catch {
      let hasExpired = caller.expiresAt.map { $0 <= .now } ?? false
      relay.hub.close(connection, hasExpired ? .unauthenticated : .revoked)
      return false
    }
  }

  private func authenticate(_ token: Secret<String>) {
    isCheckingToken = true
    relay.backend.authenticate(token) { [weak self] result in
      guard let self, !isEnded else { return }
      switch result {
      case .success(let caller): accept(caller)
      case .failure(let error):
        services.logRefusal(error, connection.socket.address)
        handle(.tokenRefused((error as? AppError)?.code ?? .unavailable))
      }
      // What waited is served with the claims that this brought, or with the old ones.
      isCheckingToken = false
      serveWaiting()
    }
  }

  private func accept(_ new: Caller) {
    switch credential.judge(new) {
    case .first(let caller):
      _ = credential.use(caller)
      setTick()
      if enter(caller) { handle(.tokenAccepted(caller)) }
    case .renewed(let caller):
      handle(.tokenAccepted(caller))
      use(caller)
      _ = feeds.catchUp(self)
    case .otherUser: handle(.tokenOfAnotherUser)
    }
  }

  /// From here on the socket acts for the caller as it is now.
  func use(_ new: Caller) {
    guard !isEnded, let old = caller else { return }
    let hasOtherClaims = credential.use(new)
    setTick()
    guard hasOtherClaims else { return }
    feeds.renewed(self, from: old, in: dialect.rooms)
    handle(.claimsChanged)
  }
}

extension RelaySocket: SocketView {
  var now: Int64 { relay.backend.now }
  var caller: Caller? { credential.caller }
  var epoch: String { services.epoch }
  var mayServe: Bool { feeds.mayServe }
  var headMark: HeadMark { feeds.headMark }
  func isServed(_ id: RoomID) -> Bool { feeds.room(id) != nil }
  func isSubscribed(to id: RoomID) -> Bool { feeds.isSubscribed(self, to: id) }
  func isBehind(in id: RoomID) -> Bool { feeds.isBehind(self, in: id) }

  func movedHeads(of rooms: Set<RoomID>, since mark: HeadMark) -> [RoomHead] {
    feeds.movedHeads(of: rooms, since: mark, for: self)
  }
}
