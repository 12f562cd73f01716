internal import Access
internal import Basics
internal import Chat
internal import EventLoop
internal import Events
internal import Live
internal import Presence
internal import Web

/// One socket of either protocol. It passes inputs to its dialect and performs the actions that the dialect returns.
/// Used on its loop only.
final class RelaySocket<Dialect: SocketDialect>: WebSocketHandler {
  let connection: Hub.Connection
  // Unowned: a relay lives as long as its loop, and its sockets end before it.
  unowned let relay: RelayLoop
  private(set) var dialect: Dialect
  private var intake: FrameIntake
  var credential: CredentialWatch
  var sender: Sender
  /// Whether a token is being checked. Later frames wait, because they are served with the claims of that token.
  private var isCheckingToken = false
  /// Whether waiting frames are being served now.
  private var isServing = false
  /// Whether actions are being performed. Waiting frames are served after all of them.
  private var isCarryingOut = false
  /// The remaining actions of an input that concerns very many rooms.
  private var unfinished = PendingActions()
  /// The permit of the admission limit, held as long as this object exists.
  private let permit: SocketAdmission.Permit?
  /// Whether the socket is counted among its user's connections.
  private var isCounted = false
  /// When the activity of the socket was noted last, by `Monotonic.milliseconds`.
  private var activeAt: Int64 = 0
  private(set) var isEnded = false

  /// `caller` is nil if the client shows its token later.
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

  /// Counts the connection among its user's, and adds the socket to the listeners of its loop. Returns false if the
  /// socket was closed instead.
  private func enter(_ caller: Caller) -> Bool {
    isCounted = services.openConnection(of: caller.userID)
    guard isCounted else {
      relay.hub.close(connection, .tooManyConnections)
      return false
    }
    services.presence.opened(caller.userID)
    activeAt = now
    return feeds.add(self)
  }

  func received(text: UnsafeRawBufferPointer) {
    relay.metrics.framesIn.add()
    relay.takeEvents()
    guard !isEnded else { return }
    noteActivity()
    if isFree, !intake.hasWaiting {
      serve(parse(text))
      return
    }
    if let ends = Dialect.ends {
      // A frame that ends the connection waits for the frames before it, but not for long.
      let object = parse(text)
      if ends(object) { intake.willEnd(object, now: now) }
    }
    intake.wait(text, now: now)
    adjustReading()
    setTick()
  }

  func receivedBinary() { handle(.binary) }

  func receivedPing() { noteActivity() }

  /// Notes, from time to time, that the caller is active.
  private func noteActivity() {
    let now = now
    guard let caller, now - activeAt >= Self.activityMilliseconds else { return }
    activeAt = now
    services.presence.active(caller.userID)
  }

  /// Activity is noted at most this often.
  private static var activityMilliseconds: Int64 { 5000 }

  func drained() {
    relay.hub.drained(connection)
    feeds.drained(self)
  }

  /// Before a token is shown, nothing that other people said can be queued, so a closed gate does not matter.
  var mayWrite: Bool { caller == nil || feeds.mayServe }

  func closed() {
    isEnded = true
    unfinished.removeAll()
    intake.removeAll()
    if isCounted, let caller {
      services.closeConnection(of: caller.userID)
      services.presence.closed(caller.userID)
      relay.presence.remove(connection.number)
    }
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
      // A socket without a caller is not told when frames may be served again, so it tries at each tick.
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
    // Something that is overdue may have to wait for something else. It is checked again soon, but not at once: that
    // would be a busy loop.
    return max(due, now + Self.shortestTickMilliseconds)
  }

  private static var shortestTickMilliseconds: Int64 { 100 }

  /// Announces the next tick. Called wherever `tickDue` may have become earlier.
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

  /// Serves waiting frames, until a frame has to wait for something again.
  func serveWaiting() {
    guard !isServing, !isCarryingOut else { return }
    isServing = true
    defer { isServing = false }
    while isFree, let frame = intake.next() { serve(frame.withUnsafeBytes { parse($0) }) }
    adjustReading()
  }

  /// Refuses waiting frames if they have waited too long because this node may not serve any.
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

  /// Passes an input to the dialect and performs the actions that it returns.
  func handle(_ input: SocketInput) {
    guard !isEnded else { return }
    let actions = dialect.handle(input, self)
    if !unfinished.isEmpty, input.mayTakeTurns {
      unfinished.append(actions)
    } else if input.mayTakeTurns, PendingActions.size(of: actions) > relay.stepSize {
      unfinished.append(actions)
      // Weak: the socket may be closed and released before its turn comes.
      relay.work.perform { [weak self] in self?.performNext() ?? false }
    } else {
      perform(actions)
      serveWaitingWhenFree()
    }
  }

  /// Performs the next step of the unfinished actions. Returns whether there are more.
  private func performNext() -> Bool {
    // These actions count as unfinished during the call, so no other frame is served in between.
    perform(unfinished.next(relay.stepSize))
    unfinished.performed()
    guard unfinished.isEmpty else { return true }
    // The next frame may cause as much work. It then becomes a job of its own in `TurnWork`.
    serveWaitingWhenFree()
    return false
  }

  private func perform(_ actions: [SocketAction]) {
    // An action may cause inputs, which may cause more actions.
    let isWithin = isCarryingOut
    isCarryingOut = true
    defer { isCarryingOut = isWithin }
    for action in actions {
      // An action may close the socket.
      guard !isEnded else { return }
      perform(action)
    }
  }

  /// Serves waiting frames, if they may be served now, once all pending inputs of rooms have run.
  private func serveWaitingWhenFree() {
    guard intake.hasWaiting, !isServing, !isCarryingOut, isFree else { return }
    feeds.whenIdle { [weak self] in self?.serveWaiting() }
  }

  private func perform(_ action: SocketAction) {
    switch action {
    case .send(let frame, let room, let owner):
      feeds.send(feeds.encode(frame), to: self, after: room, of: owner)
    case .answer(let frame, let room):
      feeds.answer(feeds.encode(frame), to: self, after: room)
    case .replay(let entry): feeds.replay(entry, to: self)
    case .sendHeads(let heads): feeds.sendHeads(heads, to: self)
    case .cork: relay.hub.cork(connection)
    case .uncork(let frame): relay.hub.uncork(connection, first: feeds.encode(frame))
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
    case .resolve(let names): resolve(names)
    case .examine(let entry): examine(entry)
    case .write(let entry): write(entry)
    case .markRead(let id, let seq, let channel, let clientID):
      markRead(id, seq, channel, clientID)
    case .typing(let id, let channel, let clientID): typing(id, channel, clientID)
    case .watch(let users, let clientID): watch(users, clientID)
    case .charge(let frames): intake.charge(frames)
    }
  }

  /// Finds the rooms that the caller's memberships, as this socket knows them, do not tell.
  private func resolve(_ names: [ChannelName]) {
    guard let caller, let account = caller.affiliations.map({ _ in caller.userID }) else {
      // A token of another system is in no team.
      handle(.resolved(names.reduce(into: [:]) { $0[$1] = .refused(.roomNotFound) }))
      return
    }
    relay.backend.resolve(names, for: account) { [weak self, services] result in
      guard let self, !isEnded else { return }
      switch result {
      case .success(let found):
        affiliationsChanged(found.affiliations)
        handle(.resolved(found.rooms))
      case .failure(let error):
        services.log.warning("channels_not_found", ["cause": .init("\(error)")])
        handle(.resolved(names.reduce(into: [:]) { $0[$1] = .refused(.unavailable) }))
      }
      serveWaiting()
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

  /// Returns whether the credential is still valid. Closes the socket if it is not.
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
      // Waiting frames are served with the new claims, or with the old ones if the token was refused.
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

  /// Makes the socket act for the same person with a new credential or new memberships. If the rights differ, the
  /// socket's rooms are checked again.
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
  func channelID(of id: RoomID) -> String { feeds.channelID(of: id) }

  func team(ofChannel id: RoomID) -> TeamID? {
    caller?.affiliations?.teams.first { $0.value.channel == id }?.key
  }

  func room(named name: ChannelName) -> RoomID? {
    guard let caller, let team = caller.affiliations?.teams[name.team] else { return nil }
    guard let member = name.member else { return team.channel }
    return relay.backend.knownDialog(of: caller.userID, with: member, in: name.team)
  }

  func movedHeads(of rooms: Set<RoomID>, since mark: HeadMark) -> [RoomHead] {
    feeds.movedHeads(of: rooms, since: mark, for: self)
  }
}
