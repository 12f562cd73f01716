internal import Access
internal import Basics
internal import Chat
internal import EventLoop
internal import Events
internal import Live
internal import Web

/// One socket of relay v1. On its loop only.
///
/// Frames are served in the order they came. What must wait (a room that is read, a token that is
/// checked) holds up only what depends on it, but nothing is served before `ready` is out.
final class RelaySession: WebSocketHandler, RoomListener {
  let connection: Hub.Connection
  var caller: Caller?
  let dialect = Dialect.relay
  /// False for `?subscribe=none`: only what is asked for.
  let followsAllRooms: Bool
  // Unowned: a relay lives as long as its loop, and sockets less.
  unowned let loop: RelayLoop
  let services: RelayServices
  private var allowance: FrameAllowance
  var state = State.opening
  private var waiting = WaitingFrames()
  private var outbox = Outbox()
  /// Rooms that this socket is subscribed to, or waits for, each with the head it was last told.
  var heads: [RoomID: Int64] = [:]
  /// Rooms that the client unsubscribed from: they do not come back by themselves.
  var left: Set<RoomID> = []
  /// Rooms that became readable while `ready` was being prepared.
  var becameReadable: Set<RoomID> = []
  /// Frames that tell of invitations which came meanwhile.
  var invitations: [[UInt8]] = []
  /// Acknowledgements that wait until this socket has been sent their entries.
  private var heldAcks: [RoomID: [Entry]] = [:]
  private var heldAckBytes = 0
  private var heartbeatDue: Int64
  /// `ready` is out by then, or the client is to try again.
  private let openingDue: Int64
  var isExpiryAnnounced = false
  /// False where there are more rooms than `ready` lists: the others are subscribed to by name.
  private var listsAllRooms = true
  /// Whether the rooms that new claims opened are being looked for, and are to be looked for again.
  var isFollowing = false
  var mustFollowAgain = false
  private var isCounted = false

  enum State {
    /// `ready` is being prepared.
    case opening
    /// A token is checked; what comes behind it is served with the claims that it brings.
    case renewing
    case open
    case ended
  }

  private static let heartbeatMilliseconds: Int64 = 25_000
  private static let expiryWarningMilliseconds: Int64 = 60_000
  /// Channels of one frame that cost no more than the frame itself.
  private static let channelsPerFrame = 100

  init(socket: WebSocket, loop: RelayLoop, caller: Caller, followsAllRooms: Bool) {
    self.loop = loop
    services = loop.services
    connection = loop.hub.makeConnection(socket)
    self.caller = caller
    self.followsAllRooms = followsAllRooms
    allowance = FrameAllowance(loop.services.settings)
    heartbeatDue = Monotonic.milliseconds + Self.heartbeatMilliseconds
    openingDue =
      Monotonic.milliseconds + Int64(loop.services.settings.handshakeSeconds) * 1000
  }

  var feeds: RoomFeeds { loop.feeds }

  // MARK: Opening

  func opened() {
    guard let caller else { return }
    isCounted = services.openConnection(of: caller.userID)
    guard isCounted else {
      loop.hub.close(connection, .tooManyConnections)
      return
    }
    guard feeds.add(self) else { return }
    if followsAllRooms { list() } else { ready([]) }
  }

  /// Finds the rooms that `ready` lists.
  private func list() {
    guard let caller else { return }
    mustFollowAgain = false
    let session = LoopBound(self, on: loop.loop)
    loop.loop.task { [services] in
      do {
        let (ids, hasMore) = try await services.rooms.latestReadableRooms(for: caller)
        session.value.listsAllRooms = !hasMore
        session.value.prepare(ids)
      } catch { session.value.openingFailed(error) }
    }
  }

  private func openingFailed(_ error: any Error) {
    services.log.warning("relay_not_opened", ["cause": .init("\(error)")])
    loop.hub.close(connection, .unavailable)
  }

  private func prepare(_ ids: [RoomID]) {
    guard case .opening = state else { return }
    feeds.withRooms(ids) { [weak self] failure in
      guard let self else { return }
      if let failure {
        openingFailed(failure)
      } else if mustFollowAgain {
        list()
      } else if listsAllRooms, !becameReadable.isSubset(of: ids) {
        let all = Set(ids).union(becameReadable)
        prepare(all.sorted())
      } else {
        ready(ids)
      }
    }
  }

  /// Subscribes to all rooms and says so, in one step: nothing comes between.
  private func ready(_ ids: [RoomID]) {
    guard case .opening = state, let caller else { return }
    state = .open
    for id in ids where feeds.room(id) != nil {
      heads[id] = 0
      feeds.attach(self, to: id, .listed)
    }
    let frame = feeds.frames.ready(
      caller, epoch: services.epoch, heartbeatSeconds: Self.heartbeatMilliseconds / 1000,
      channels: heads.sorted { $0.key < $1.key }, hasMore: !listsAllRooms)
    loop.hub.send(frame, to: connection)
    // Those that `ready` had no place for.
    follow(becameReadable.sorted())
    becameReadable = []
    for invitation in invitations { send(invitation) }
    invitations = []
    serveWaiting()
  }

  // MARK: Frames

  func received(text: UnsafeRawBufferPointer) {
    loop.metrics.framesIn.add()
    switch state {
    case .open where feeds.mayServe && waiting.isEmpty: serve(text)
    case .opening, .renewing, .open:
      waiting.add(text, now: Monotonic.milliseconds)
      // What was read already still comes; the rest waits on the client's side.
      if waiting.isFull { connection.socket.setReading(false) }
    case .ended: break
    }
  }

  func gateOpened() { serveWaiting() }

  /// Refuses what has waited for too long while this node may not serve it.
  private func refuseOverdue(now: Int64) {
    guard case .open = state, !feeds.mayServe else { return }
    let wasFull = waiting.isFull
    for frame in waiting.takeOverdue(now: now) {
      guard
        let object = frame.withUnsafeBytes({
          parseObject($0, maximumDepth: services.settings.maxJSONDepth)
        })
      else {
        loop.hub.close(connection, .notJSON)
        return
      }
      fail(.unavailable, clientID: object["client_id"]?.string)
    }
    if wasFull, !waiting.isFull { connection.socket.setReading(true) }
  }

  /// Serves what waited, until something has to be waited for again.
  func serveWaiting() {
    let wasFull = waiting.isFull
    while case .open = state, feeds.mayServe, let frame = waiting.next() {
      frame.withUnsafeBytes { serve($0) }
    }
    if wasFull, !waiting.isFull { connection.socket.setReading(true) }
  }

  func receivedBinary() { loop.hub.close(connection, .unsupportedData) }

  private func serve(_ text: UnsafeRawBufferPointer) {
    guard let caller,
      let object = parseObject(text, maximumDepth: services.settings.maxJSONDepth)
    else {
      loop.hub.close(connection, .notJSON)
      return
    }
    guard isStillValid(caller) else { return }
    guard allowance.take(for: caller.userID, services.userFrames) else {
      refuse(object)
      return
    }
    do {
      let frame = try RelayFrame(
        object, maximumContentBytes: services.settings.maxContentBytes)
      // Who names thousands of channels has sent more than one frame's worth.
      allowance.charge(frame.channelCount / Self.channelsPerFrame)
      for fault in frame.faults { fail(fault) }
      handle(frame)
    } catch {
      fail(error)
    }
  }

  private func refuse(_ object: JSONObject) {
    services.metrics.framesRefused.add()
    if allowance.isFlooding {
      loop.hub.close(connection, .flooding)
    } else {
      fail(.rateLimited, clientID: object["client_id"]?.string)
    }
  }

  /// Closes the socket where the credential ended.
  private func isStillValid(_ caller: Caller) -> Bool {
    do {
      try services.authenticator.check(caller)
      return true
    } catch {
      let hasExpired = caller.expiresAt.map { $0 <= .now } ?? false
      loop.hub.close(connection, hasExpired ? .unauthenticated : .revoked)
      return false
    }
  }

  private func handle(_ frame: RelayFrame) {
    switch frame.action {
    case .message(let message): take(message)
    case .subscribe(let channels): subscribe(channels, frame.clientID)
    case .unsubscribe(let channels): unsubscribe(channels, frame.clientID)
    case .resume(let epoch, let channels): resume(epoch, channels, frame.clientID)
    case .auth(let token): renew(token, frame.clientID)
    }
  }

  func send(_ frame: [UInt8], after room: RoomID? = nil) {
    feeds.send(frame, to: self, after: room)
  }

  func fail(_ code: ErrorCode, clientID: String?, channel: String? = nil) {
    feeds.answer(feeds.frames.error(code, clientID: clientID, channelID: channel), to: self)
  }

  private func fail(_ failure: RelayFrame.Failure) {
    feeds.answer(
      feeds.frames.error(
        failure.code, failure.message, clientID: failure.clientID, channelID: failure.channelID),
      to: self)
  }

  // MARK: Messages

  private func take(_ message: RelayMessage) {
    guard let id = RoomID(message.channelID) else {
      fail(.roomNotFound, clientID: message.clientID, channel: message.channelID)
      return
    }
    if let room = feeds.room(id) {
      submit(message, room)
      return
    }
    feeds.withRoom(id) { [weak self] result in
      guard let self, connection.socket.isOpen else { return }
      switch result {
      case .success(let room?): submit(message, room)
      case .success(nil):
        fail(.roomNotFound, clientID: message.clientID, channel: message.channelID)
      case .failure(let error):
        fail(error.code, clientID: message.clientID, channel: message.channelID)
      }
    }
  }

  private func submit(_ message: RelayMessage, _ room: Room) {
    guard let caller else { return }
    let access = Self.access(caller, room)
    // Who may not write may still ask for the ack of what is in the log already.
    if case .denied(let code) = access, message.clientID == nil {
      fail(code, clientID: nil, channel: message.channelID)
      return
    }
    submit(
      Draft(
        roomID: room.id, channelID: room.channelID, from: caller.userID,
        body: .message(MessageContent(type: message.type, data: message.data)),
        clientID: message.clientID, access: access,
        origin: Origin(
          node: services.node, loop: loop.loop.index, socket: connection.number)))
  }

  private func submit(_ draft: Draft) {
    switch outbox.decide(draft) {
    case .send: loop.submit(draft)
    case .hold: break
    case .refuse: failed(draft, .unavailable)
    }
  }

  /// Whether the caller may write in the room, and what that rests on.
  private static func access(_ caller: Caller, _ room: Room) -> Draft.Access {
    if let grant = RuleEngine.grantToWrite(caller, in: room) { return .granted(grant) }
    return .denied(
      RuleEngine.standing(of: caller, in: room).isMember ? .forbidden : .roomNotFound)
  }

  func committed(_ entry: Entry, in room: ServedRoom?) {
    guard entry.clientID != nil else { return }
    if room?.feed.isBehind(connection.number) == true {
      heldAcks[entry.roomID, default: []].append(entry)
      heldAckBytes += entry.cost
      // Who does not take what it is sent, and sends on, is too slow like any other.
      if heldAckBytes > services.settings.sendQueueBytes {
        loop.hub.close(connection, .slowReader)
      }
    } else {
      loop.hub.send(feeds.frames.ack(entry), to: connection, after: room?.topic(dialect))
    }
  }

  /// Sends the acknowledgements that waited, if their entries are out now.
  private func releaseAcks(_ id: RoomID) {
    guard !heldAcks.isEmpty, !feeds.isBehind(self, in: id),
      let entries = heldAcks.removeValue(forKey: id)
    else { return }
    for entry in entries {
      heldAckBytes -= entry.cost
      send(feeds.frames.ack(entry), after: id)
    }
  }

  func failed(_ draft: Draft, _ code: ErrorCode) {
    fail(code, clientID: draft.clientID, channel: draft.channelID)
  }

  func settled(_ roomID: RoomID, stale: Draft?) {
    guard outbox.settled(roomID, stale: stale) else { return }
    feeds.withFreshRoom(roomID, for: self) { [weak self] result in
      guard let self, let caller, connection.socket.isOpen else { return }
      let (drafts, isHopeless) = outbox.takeBack(roomID)
      for draft in drafts {
        switch result {
        case _ where isHopeless: failed(draft, .unavailable)
        case .success(let room?):
          submit(draft.with(Self.access(caller, room)))
        case .success(nil): failed(draft, .roomNotFound)
        case .failure(let error): failed(draft, error.code)
        }
      }
    }
  }

  // MARK: Subscriptions

  /// The rooms that channels name, each of which is about to be asked for; the others are answered.
  private func rooms<Element>(
    _ channels: [Element], _ name: (Element) -> String, _ clientID: String?
  ) -> [(id: RoomID, element: Element)] {
    let rooms = channels.compactMap { element -> (RoomID, Element)? in
      if let id = RoomID(name(element)) { return (id, element) }
      fail(.roomNotFound, clientID: clientID, channel: name(element))
      return nil
    }
    feeds.prepare(rooms.map(\.0))
    return rooms
  }

  private func subscribe(_ channels: [String], _ clientID: String?) {
    for (id, _) in rooms(channels, \.self, clientID) {
      left.remove(id)
      if heads[id] == nil { heads[id] = 0 }
      feeds.attach(self, to: id, .subscribe(clientID: clientID))
    }
  }

  private func unsubscribe(_ channels: [String], _ clientID: String?) {
    for (id, _) in rooms(channels, \.self, clientID) {
      left.insert(id)
      feeds.leave(self, id, clientID: clientID)
    }
  }

  private func resume(
    _ epoch: String?, _ channels: [(channelID: String, last: Int64)], _ clientID: String?
  ) {
    let isSameLog = epoch == nil || epoch == services.epoch
    let budget = ReplayBudget()
    for (id, channel) in rooms(channels, \.channelID, clientID) {
      left.remove(id)
      if heads[id] == nil { heads[id] = 0 }
      // No seq of another log means anything here: below zero asks for a reset.
      feeds.attach(
        self, to: id,
        .resume(last: isSameLog ? channel.last : -1, clientID: clientID, budget: budget))
    }
  }

  // MARK: RoomListener

  func admitted(to room: Room, _ purpose: RoomFeed.Purpose, seq: Int64) {
    heads[room.id] = seq
    switch purpose {
    case .listed, .resume: break
    case .subscribe: send(feeds.frames.position("subscribed", room.id, seq: seq))
    case .became: send(feeds.frames.position("channel", room.id, seq: seq))
    }
    releaseAcks(room.id)
  }

  func refused(_ roomID: RoomID, _ purpose: RoomFeed.Purpose, _ code: ErrorCode) {
    // Refused for asking too often, it keeps what it has.
    if code != .rateLimited { heads[roomID] = nil }
    // No way back to forget where there is no way in.
    if code == .roomNotFound { left.remove(roomID) }
    switch purpose {
    case .listed, .became: break
    case .subscribe(let clientID), .resume(_, let clientID, _):
      fail(code, clientID: clientID, channel: roomID.description)
    }
    releaseAcks(roomID)
  }

  func revoked(_ roomID: RoomID, channelID: String, _ code: ErrorCode) {
    heads[roomID] = nil
    send(feeds.frames.gone(roomID, channelID: channelID, code))
    releaseAcks(roomID)
  }

  func left(_ roomID: RoomID, seq: Int64, clientID: String?) {
    // Unless it came back in the same breath.
    if !feeds.isSubscribed(self, to: roomID) { heads[roomID] = nil }
    send(feeds.frames.position("unsubscribed", roomID, seq: seq))
    releaseAcks(roomID)
  }

  func replay(_ entries: [Entry]) {
    for entry in entries {
      var frame = feeds.frames.relayEntry(entry, isShared: false)
      if entry.from == caller?.userID { frame = feeds.frames.forSender(frame, of: entry) }
      feeds.send(frame, to: self, of: entry.roomID)
    }
  }

  func resumed(_ room: Room, seq: Int64) {
    heads[room.id] = seq
    send(feeds.frames.position("resumed", room.id, seq: seq))
  }

  func joined(_ room: Room) { releaseAcks(room.id) }

  func reset(_ room: Room, seq: Int64) {
    heads[room.id] = seq
    send(feeds.frames.position("reset", room.id, seq: seq))
    releaseAcks(room.id)
  }

  func drained() { feeds.drained(self) }

  var mayWrite: Bool { feeds.mayServe }

  // MARK: Time

  func tick(now: Int64) {
    guard let caller else { return }
    switch state {
    case .open, .renewing: break
    case .opening:
      if now >= openingDue { loop.hub.close(connection, .unavailable) }
      return
    case .ended: return
    }
    if let expiresAt = caller.expiresAt {
      let left = expiresAt.milliseconds - Timestamp.now.milliseconds
      if left <= 0 {
        loop.hub.close(connection, .unauthenticated)
        return
      }
      if left <= Self.expiryWarningMilliseconds, !isExpiryAnnounced {
        isExpiryAnnounced = true
        feeds.answer(feeds.frames.expiring(inSeconds: (left + 999) / 1000), to: self)
      }
    }
    refuseOverdue(now: now)
    if now >= heartbeatDue {
      heartbeatDue = now + Self.heartbeatMilliseconds
      services.authenticator.noteUse(of: caller)
      heartbeat()
    }
  }

  private func heartbeat() {
    guard feeds.mayServe else {
      // The connection is well, and of the rooms nothing may be said now.
      feeds.answer(feeds.frames.heartbeat([]), to: self)
      return
    }
    var moved: [(key: RoomID, value: Int64)] = []
    for (id, told) in heads {
      guard !feeds.isBehind(self, in: id), let head = feeds.lastSeq(id), head > told else {
        continue
      }
      moved.append((id, head))
    }
    for (id, head) in moved {
      heads[id] = head
      // What the heads speak of goes out before them.
      send([], after: id)
    }
    send(feeds.frames.heartbeat(moved.sorted { $0.key < $1.key }))
  }

  func closed() {
    state = .ended
    waiting = WaitingFrames()
    if isCounted, let caller { services.closeConnection(of: caller.userID) }
    isCounted = false
    feeds.remove(self, from: Array(heads.keys))
  }
}
