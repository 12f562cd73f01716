internal import Access
internal import Basics
internal import Chat
internal import EventLoop
internal import Events
internal import Live
internal import Web

/// The rooms that one event loop serves: carries out what each `RoomFeed` decides. On the loop only.
final class RoomFeeds {
  let loop: Loop
  let hub: Hub
  var frames = FrameWriter()
  let log: LogReader
  let directory: RoomDirectory
  let services: RelayServices
  let memberships: any Memberships
  private let node: NodeID
  private let metrics: LiveMetrics
  private let relayMetrics: RelayMetrics
  let logger: Log

  var rooms: [RoomID: ServedRoom] = [:]
  /// How often `rooms` began anew: what was read for an earlier one is of no use.
  private(set) var generation = 0
  private(set) var listeners = ListenerIndex()
  /// Rooms that this loop serves: their events wait until they are read.
  private let servedRooms: Reloads<RoomID, Room>
  /// Rooms that nobody hears here, read for those who follow all rooms: nothing waits for them.
  private let otherRooms: Reloads<RoomID, Room>
  let accounts: Reloads<UserID, Affiliations>
  private let intake: EventIntake
  private lazy var replays = Replays(feeds: self)

  private static let gapMilliseconds = 20
  private static let gapRetryMilliseconds = 1000
  private static let unusedMilliseconds: Int64 = 30_000

  init(
    loop: Loop, hub: Hub, gate: DeliveryGate, services: RelayServices, directory: RoomDirectory,
    metrics: LiveMetrics
  ) {
    self.loop = loop
    self.hub = hub
    self.directory = directory
    self.metrics = metrics
    log = services.reader
    self.services = services
    memberships = services.memberships
    node = services.node
    relayMetrics = services.metrics
    logger = services.log
    servedRooms = Reloads(
      loop: loop, of: "rooms", log: services.log, version: \.accessVersion
    ) { try await directory.rooms(atLeast: $0, isUrgent: true) }
    otherRooms = Reloads(
      loop: loop, of: "rooms", log: services.log, version: \.accessVersion
    ) { try await directory.rooms(atLeast: $0, isUrgent: false) }
    accounts = Reloads(
      loop: loop, of: "affiliations", log: services.log, version: \.version
    ) { [memberships] in try await memberships.affiliations(atLeast: $0) }
    intake = EventIntake(gate: gate, rooms: servedRooms, accounts: accounts)
    connect()
  }

  private func connect() {
    // Unowned: these are owned, and call on the loop only.
    servedRooms.found = { [unowned self] id, room in
      if let room { apply(room, to: id) } else { handle(id, .changed(nil)) }
    }
    servedRooms.done = { [unowned self] in intake.release($0) }
    otherRooms.found = { [unowned self] id, room in
      if let room { apply(room, to: id) }
    }
    accounts.found = { [unowned self] in if let affiliations = $1 { tell($0, affiliations) } }
    accounts.done = { [unowned self] _ in intake.openIfKnown() }
    intake.carryOut = { [unowned self] in carryOut($0) }
    intake.headKnown = { [unowned self] in handle($0, .head($1, asOf: 0)) }
    intake.opened = { [unowned self] in
      for listener in listeners.all {
        listener.connection.socket.resumeWriting()
        listener.gateOpened()
      }
      replays.gateOpened()
    }
  }

  // MARK: Listeners

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
      if let known = memberships.current(caller.userID) {
        listener.affiliationsChanged(known)
      } else {
        accounts.read(caller.userID, version: affiliations.version)
      }
    }
    return true
  }

  func listener(_ number: UInt64) -> (any RoomListener)? { listeners[number] }

  /// Forgets the listener everywhere; it was in these rooms.
  func remove(_ listener: any RoomListener, from roomIDs: some Sequence<RoomID>) {
    let number = listener.connection.number
    for id in roomIDs { detach(listener, from: id) }
    replays.forget(number)
    _ = listeners.remove(number, listener.caller)
  }

  /// The listener's claims changed from `old`: rooms that it may not read any more are revoked.
  func renewed(_ listener: any RoomListener, from old: Caller, in roomIDs: some Sequence<RoomID>) {
    guard let caller = listener.caller else { return }
    listeners.move(listener.connection.number, from: old, to: caller)
    for id in roomIDs { handle(id, .renew(listener.connection.number, caller)) }
  }

  // MARK: Subscriptions

  func attach(_ listener: any RoomListener, to id: RoomID, _ purpose: RoomFeed.Purpose) {
    guard let caller = listener.caller else { return }
    served(id).unusedSince = nil
    handle(id, .attach(listener.connection.number, caller, purpose))
  }

  /// Ends what `attach` began, if it did, and answers after what was asked before.
  func leave(_ listener: any RoomListener, _ id: RoomID, clientID: String?) {
    guard let caller = listener.caller else { return }
    served(id).unusedSince = nil
    handle(id, .leave(listener.connection.number, caller, clientID: clientID))
  }

  func detach(_ listener: any RoomListener, from id: RoomID) {
    guard let served = rooms[id] else { return }
    hub.unsubscribe(listener.connection, from: served.topic(listener.dialect))
    handle(id, .detach(listener.connection.number))
  }

  func isSubscribed(_ listener: any RoomListener, to id: RoomID) -> Bool {
    rooms[id]?.feed.isSubscribed(listener.connection.number) == true
  }

  /// Whether entries of the room may have been published that the listener was not sent yet.
  func isBehind(_ listener: any RoomListener, in id: RoomID) -> Bool {
    rooms[id]?.feed.isBehind(listener.connection.number) == true
  }

  /// The room where this loop serves it already.
  func room(_ id: RoomID) -> Room? { rooms[id]?.feed.room }

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

  /// Calls back once all of these rooms are served, or an error where they could not be read.
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
    let feeds = LoopBound(self, on: loop)
    let callback = LoopBound(body, on: loop)
    let number = listener.connection.number
    let affiliations = listener.caller?.affiliations
    let account = affiliations == nil ? nil : listener.caller?.userID
    let known = (room: room(id)?.accessVersion ?? 0, account: affiliations?.version ?? 0)
    loop.task { [directory, memberships, services] in
      do {
        let room = try await directory.reload(id)
        var affiliations: Affiliations?
        if let account { affiliations = try await memberships.reload(account) }
        if room.map({ $0.accessVersion < known.room }) ?? false
          || affiliations.map({ $0.version < known.account }) ?? false
        {
          services.databaseWentBack()
          throw AppError(.unavailable)
        }
        if let affiliations { feeds.value.listeners[number]?.affiliationsChanged(affiliations) }
        if feeds.value.rooms[id] != nil { feeds.value.handle(id, .changed(room)) }
        callback.value(.success(room))
      } catch {
        callback.value(.failure(AppError(.unavailable, underlying: error)))
      }
    }
  }

  /// Reads those of the rooms that are not served yet, together: before each is asked for.
  func prepare(_ ids: [RoomID]) { load(ids.filter { rooms[$0] == nil }) }

  private func served(_ id: RoomID) -> ServedRoom {
    if let known = rooms[id] { return known }
    load([id])
    // `load` has just put it there.
    return rooms[id] ?? ServedRoom(id, services.ingest)
  }

  // MARK: Events

  /// Takes what a commit brought, in order.
  ///
  /// What takes access away counts at once. Entries and receipts wait while the gate is closed, and
  /// those of a room while its rules are being read: nothing is delivered by rules that are known to be
  /// old.
  func apply(_ events: [Event]) {
    loop.preconditionOnLoop()
    var ended: Set<SessionID> = []
    for event in events {
      switch event {
      case .entry(let entry, let origin):
        let isHere = origin.map(isHere) ?? false
        if intake.mayPass(entry.roomID) {
          deliver(entry, isHere ? origin : nil)
        } else {
          intake.take(.entry(entry, origin: isHere ? origin : nil))
        }
      case .receipt(let receipt):
        if receipt.draft.origin.map(isHere) ?? false { intake.take(event) }
      case .access(.sessionEnded(let id)): ended.insert(id)
      case .access(.affiliationsChanged(let user, let version)):
        affiliationsChanged(user, version)
      case .access(.roomChanged(let id, let version)): accessChanged(id, version)
      case .access(.invited(let id, let subject, let version)):
        invited(subject, to: id, version)
      case .access(.roomDeleted(let id, _)):
        if rooms[id] != nil { handle(id, .changed(nil)) }
      case .compared(let begin):
        // Sessions that ended come before this in the stream.
        end(ended)
        ended = []
        intake.compared(at: begin)
      case .epochChanged: startAnew()
      }
    }
    end(ended)
  }

  /// Whether frames of clients may be served: not while this node does not know who may do what.
  var mayServe: Bool { intake.isOpen }

  private func carryOut(_ event: Event) {
    switch event {
    case .entry(let entry, let origin): deliver(entry, origin)
    case .receipt(let receipt): take(receipt)
    default: break
    }
  }

  /// Hot path: an entry that is simply the next takes no input and no outputs. Two loops count references
  /// to the same entry at the same time, and each count costs both.
  private func deliver(_ entry: Entry, _ origin: Origin?) {
    let served = rooms[entry.roomID]
    if let served {
      if served.feed.deliverNext(entry) {
        publish(entry, served)
      } else {
        handle(entry.roomID, .entry(entry))
      }
    }
    guard let origin, let listener = listeners[origin.socket] else { return }
    listener.settled(entry.roomID, stale: nil)
    acknowledge(entry, to: listener, in: served)
  }

  private func isHere(_ origin: Origin) -> Bool {
    origin.node == node && origin.loop == loop.index
  }

  /// The database is another one, or has gone back: nothing that is known of rooms counts, and no
  /// cursor that was given out. Clients come back, and are told to reload.
  private func startAnew() {
    for listener in listeners.all { hub.close(listener.connection, .unavailable) }
    generation += 1
    intake.forgetAll()
    servedRooms.forgetAll()
    otherRooms.forgetAll()
    accounts.forgetAll()
    let old = rooms
    rooms = [:]
    for served in old.values { served.answerWaiters(.failure(AppError(.unavailable))) }
  }

  private func take(_ receipt: Receipt) {
    guard let origin = receipt.draft.origin else { return }
    let (draft, socket) = (receipt.draft, origin.socket)
    switch receipt.outcome {
    case .stale: listeners[socket]?.settled(draft.roomID, stale: draft)
    case .known(let entry):
      listeners[socket]?.settled(draft.roomID, stale: nil)
      // It may be in the log and not have reached this loop yet.
      if rooms[entry.roomID] != nil { handle(entry.roomID, .head(entry.seq, asOf: 0)) }
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

  /// The ack of an entry follows its broadcast on the sender's socket.
  private func acknowledge(
    _ entry: Entry, to listener: any RoomListener, in served: ServedRoom?
  ) {
    let socket = listener.connection.number
    if let served, let lastSeq = served.feed.lastSeq, lastSeq < entry.seq,
      served.feed.isSubscribed(socket)
    {
      served.heldAcks[entry.seq, default: (entry, [])].sockets.append(socket)
    } else {
      listener.committed(entry, in: served)
    }
  }

  private func end(_ sessions: Set<SessionID>) {
    if sessions.isEmpty { return }
    // Rare, and the list of all is short enough to look through once.
    for listener in listeners.all
    where listener.caller?.sessionID.map(sessions.contains) == true {
      listener.sessionEnded()
    }
  }

  /// A room changed. It is applied to its feed before it is offered to those who follow all rooms: who
  /// may read it now was refused by the feed as it was.
  func accessChanged(_ id: RoomID, _ version: Int64) {
    let isServed = rooms[id] != nil
    guard isServed || !listeners.isEmpty else { return }
    if let room = directory.cached(id), room.accessVersion >= version {
      apply(room, to: id)
    } else if isServed {
      servedRooms.read(id, version: version)
      otherRooms.forget(id)
    } else {
      otherRooms.read(id, version: version)
    }
  }

  private func apply(_ room: Room, to id: RoomID) {
    if let served = rooms[id] {
      if served.feed.isLoading {
        // What is being read may be older.
        served.wantedVersion = max(served.wantedVersion, room.accessVersion)
      } else {
        handle(id, .changed(room))
      }
    }
    offer(room)
  }

  // MARK: Carrying out

  func handle(_ id: RoomID, _ input: RoomFeed.Input) {
    guard let served = rooms[id] else { return }
    for output in served.feed.handle(input) { carryOut(output, id, served) }
    if served.feed.isGone, rooms[id] === served {
      // Not there now does not mean never: the next who asks finds out anew.
      rooms[id] = nil
      // Committed they are, though no broadcast comes any more.
      for (_, held) in served.heldAcks.sorted(by: { $0.key < $1.key }) {
        for socket in held.sockets { listeners[socket]?.committed(held.entry, in: nil) }
      }
      served.answerWaiters(.success(nil))
    }
    if served.feed.isUnused, served.unusedSince == nil {
      served.unusedSince = Monotonic.milliseconds
    }
  }

  func carryOut(_ output: RoomFeed.Output, _ id: RoomID, _ served: ServedRoom) {
    switch output {
    case .publish(let entry): publish(entry, served)
    case .admit(let subscriber, let purpose, let seq):
      guard let listener = leaveTopic(subscriber, served), let room = served.feed.room else {
        return
      }
      listener.admitted(to: room, purpose, seq: seq)
      hub.subscribe(listener.connection, to: served.topic(listener.dialect))
    case .refuse(let subscriber, let purpose, let code):
      leaveTopic(subscriber, served)?.refused(id, purpose, code)
    case .readReplay(let subscriber, let number, let after, let through):
      guard leaveTopic(subscriber, served) != nil else { return }
      replays.add(
        Replays.Piece(room: id, number: number, after: after, through: through), for: subscriber)
    case .readHead(let asOf):
      loop.task { [log, logger, generation, feeds = LoopBound(self, on: loop)] in
        var seq: Int64?
        do { seq = try await log.lastSeqs([id])[id] } catch {
          logger.warning("head_not_read", ["room_id": .init(id), "cause": .init("\(error)")])
        }
        guard feeds.value.generation == generation else { return }
        feeds.value.handle(id, .headRead(seq, asOf: asOf))
      }
    case .rewound(let from, let to):
      relayMetrics.headsRewound.add()
      logger.error(
        "log_rewound",
        ["room_id": .init(id), "delivered": .init(Int(from)), "head": .init(Int(to))])
    case .replay(let subscriber, let entries): listeners[subscriber]?.replay(entries)
    case .resumed(let subscriber, let seq):
      guard let listener = leaveTopic(subscriber, served), let room = served.feed.room else {
        return
      }
      listener.resumed(room, seq: seq)
    case .awaitRoom(let subscriber, let number):
      replays.sent(id, number, to: subscriber)
    case .join(let subscriber):
      guard let listener = listeners[subscriber], let room = served.feed.room else { return }
      hub.subscribe(listener.connection, to: served.topic(listener.dialect))
      listener.joined(room)
    case .reset(let subscriber, let seq):
      guard let listener = leaveTopic(subscriber, served), let room = served.feed.room else {
        return
      }
      listener.reset(room, seq: seq)
      hub.subscribe(listener.connection, to: served.topic(listener.dialect))
    case .left(let subscriber, let seq, let clientID):
      leaveTopic(subscriber, served)?.left(id, seq: seq, clientID: clientID)
    case .revoke(let subscriber, let code):
      leaveTopic(subscriber, served, isRevoked: true)?
        .revoked(id, channelID: id.description, code)
    case .waitForGap(let isRetry):
      // Unowned: feeds live as long as their loop.
      loop.schedule(after: isRetry ? Self.gapRetryMilliseconds : Self.gapMilliseconds) {
        [unowned self] in handle(id, .gapTimeout)
      }
    case .readGap(let after, let through):
      readLog(id, after, through) { [weak self] in
        guard let self else { return }
        handle(id, .gapRead($0))
        if lastSeq(id).map({ $0 > after }) == true { relayMetrics.headsHealed.add() }
      }
    }
  }

  /// The subscriber's listener, which has been sent what the topic still held for it (unless it is
  /// revoked), and hears the topic no more.
  private func leaveTopic(
    _ subscriber: UInt64, _ served: ServedRoom, isRevoked: Bool = false
  ) -> (any RoomListener)? {
    guard let listener = listeners[subscriber] else { return nil }
    hub.unsubscribe(
      listener.connection, from: served.topic(listener.dialect), isRevoked: isRevoked)
    return listener
  }

  /// The listener has taken all that was sent to it.
  func drained(_ listener: any RoomListener) { replays.goOn(listener.connection.number) }

  private func publish(_ entry: Entry, _ served: ServedRoom) {
    metrics.deliveries.add(served.relay.count + served.nano.count)
    if !served.relay.isEmpty {
      let frame = frames.relayEntry(entry, isShared: true)
      let senders =
        entry.clientID == nil ? [] : entry.from.map { listeners.connections(of: $0) } ?? []
      if senders.isEmpty {
        hub.publish(frame, to: served.relay)
      } else {
        hub.publish(
          frame, to: served.relay, except: senders,
          theirs: frames.forSender(frame, of: entry))
      }
    }
    if !served.nano.isEmpty, let frame = frames.nanoMessage(entry) {
      hub.publish(frame, to: served.nano)
    }
    if !served.heldAcks.isEmpty, let held = served.heldAcks.removeValue(forKey: entry.seq) {
      for socket in held.sockets { listeners[socket]?.committed(held.entry, in: served) }
    }
  }

  /// A frame to one listener, after what its room's topic has for it so far.
  func send(_ frame: [UInt8], to listener: any RoomListener, after id: RoomID?) {
    let topic = id.flatMap { rooms[$0]?.topic(listener.dialect) }
    hub.send(frame, to: listener.connection, after: topic)
  }

  /// As above, a frame that says nothing of rooms or of others: it leaves also while delivery waits.
  func answer(_ frame: [UInt8], to listener: any RoomListener, after id: RoomID? = nil) {
    let topic = id.flatMap { rooms[$0]?.topic(listener.dialect) }
    hub.answer(frame, to: listener.connection, after: topic)
  }

  /// A frame of a room's content to one listener, which the room's topic does not reach.
  func send(_ frame: [UInt8], to listener: any RoomListener, of id: RoomID) {
    hub.send(frame, to: listener.connection, of: rooms[id]?.topic(listener.dialect))
  }

  // MARK: From time to time

  /// Compares the heads of all served rooms with the database, and forgets rooms that nobody hears.
  func compareHeads() {
    let now = Monotonic.milliseconds
    rooms = rooms.filter { _, served in
      guard served.feed.isUnused, !served.feed.isLoading, let since = served.unusedSince else {
        return true
      }
      return now - since < Self.unusedMilliseconds
    }
    let delivered = rooms.compactMapValues(\.feed.lastSeq)
    guard !delivered.isEmpty else { return }
    let feeds = LoopBound(self, on: loop)
    loop.task { [log, logger] in
      do {
        for (id, seq) in try await log.lastSeqs(Array(delivered.keys)) {
          feeds.value.handle(id, .head(seq, asOf: delivered[id] ?? 0))
        }
      } catch {
        logger.warning("heads_not_compared", ["cause": .init("\(error)")])
      }
    }
  }

  /// The seqs up to which the given rooms have been delivered on this loop.
  func lastSeq(_ id: RoomID) -> Int64? { rooms[id]?.feed.lastSeq }
}
