internal import Access
internal import Basics
internal import Chat
internal import Events
internal import Live

/// The rooms that one event loop serves. Gives each `RoomFeed` its inputs and performs its outputs. Used on the loop
/// only.
///
/// Inputs run from a queue, one after the other. If an output leads to another input, that input waits until all
/// outputs before it were performed. `ListenerIndex` knows who is subscribed to what, `RoomReader` reads from the
/// database.
final class RoomFeeds {
  let hub: Hub
  let reader: RoomReader
  let services: RelayServices
  var frames = FrameWriter()
  private let metrics: LiveMetrics

  private(set) var rooms: [RoomID: ServedRoom] = [:]
  var listeners = ListenerIndex()
  let intake: EventIntake
  /// The log entries that resuming sockets are still to be sent, by the socket's number.
  var replays: [UInt64: ReplayQueue] = [:]
  var replayReads = ReplayReads()
  /// Replay steps that wait because the room's rules are being read again, with the number of their socket.
  var parked: [RoomID: [(step: ReplayQueue.Step, number: UInt64)]] = [:]
  var moved = MovedHeads()
  /// When sockets of this loop last told that they type.
  var typing = TypingLimit()
  /// When sockets of this loop were last told that somebody types.
  var heardTyping = TypingLimit()
  var comparisons = HeadComparisons()
  /// The index of this event loop. It tells which origins are sockets of this loop.
  let loopIndex: Int

  private var inputs = Queue<(id: RoomID, input: RoomFeed.Input)>()
  private var isRunning = false
  /// Whether `whenDone` is being emptied. Bodies do not nest.
  private var isEmptying = false
  /// What is called when all inputs have run.
  private var whenDone = Queue<() -> Void>()

  /// Called with each account whose memberships have changed, and its sockets here.
  var affiliationsAnnounced: (UserID, Set<UInt64>) -> Void = { _, _ in }

  let work: TurnWork
  /// How many rooms a closed socket leaves in one step of `work`.
  var roomsLeftPerStep = 50

  private static let gapMilliseconds = 20
  private static let gapRetryMilliseconds = 1000

  init(
    loopIndex: Int, hub: Hub, gate: DeliveryGate, services: RelayServices,
    backend: any RelayBackend, work: TurnWork, metrics: LiveMetrics
  ) {
    self.loopIndex = loopIndex
    self.hub = hub
    self.services = services
    self.work = work
    self.metrics = metrics
    reader = RoomReader(backend, log: services.log)
    intake = EventIntake(gate: gate, rooms: reader.served, accounts: reader.accounts)
    connect()
  }

  private func connect() {
    // Unowned: this object owns them, and they call it on the loop only.
    reader.served.found = { [unowned self] id, room in
      if let room { apply(room, to: id) } else { handle(id, .changed(nil, concerns: nil)) }
    }
    reader.served.done = { [unowned self] in
      intake.release($0)
      resumeParked(of: $0)
    }
    reader.others.found = { [unowned self] id, room in
      if let room { apply(room, to: id) }
    }
    reader.accounts.found = { [unowned self] in
      if let affiliations = $1 { notify($0, affiliations) }
    }
    reader.accounts.done = { [unowned self] in intake.release($0) }
    intake.perform = { [unowned self] in perform($0) }
    intake.headKnown = { [unowned self] in handle($0, .head($1, asOf: 0)) }
    intake.opened = { [unowned self] in gateOpened() }
  }

  // MARK: Rooms

  /// As frames name a room. A channel of a team that is not served here is named by its number.
  func channelID(of id: RoomID) -> String { rooms[id]?.channelID ?? id.description }

  /// The room, if this loop serves it already.
  func room(_ id: RoomID) -> Room? { rooms[id]?.feed.room }

  /// Returns the room as this loop serves it. If it is not served yet, serving begins: entries are kept from here on,
  /// then the room and its head are read.
  func served(_ id: RoomID) -> ServedRoom {
    if let known = rooms[id] { return known }
    let new = begin([id])
    load([id])
    return new[0]
  }

  /// Begins to serve those of the rooms that are not served yet. The caller has to load them.
  @discardableResult
  private func begin(_ ids: [RoomID]) -> [ServedRoom] {
    reader.backend.follow(ids)
    return ids.map { id in
      let new = ServedRoom(id, services.ingest)
      rooms[id] = new
      return new
    }
  }

  /// Stops serving a room. Returns nil if it was not served.
  @discardableResult
  func endServing(_ id: RoomID) -> ServedRoom? {
    guard let served = rooms.removeValue(forKey: id) else { return nil }
    reader.backend.unfollow([id])
    hub.dissolve(served.relay)
    if let nano = served.nano { hub.dissolve(nano) }
    // These entries are committed, but their broadcast will not come any more. Acknowledge them now.
    for (_, held) in served.heldAcks.sorted(by: { $0.key < $1.key }) {
      for socket in held.sockets { listeners[socket]?.committed(held.entry) }
    }
    served.heldAcks = [:]
    return served
  }

  /// Begins to serve those of the rooms that are not served yet.
  func prepare(_ ids: [RoomID]) {
    let new = Set(ids.filter { rooms[$0] == nil }).sorted()
    begin(new)
    load(new)
  }

  private func load(_ ids: [RoomID]) {
    reader.load(ids) { [unowned self] part, found in
      if let found { loaded(part, found) } else { notLoaded(part) }
    }
  }

  private func loaded(_ ids: [RoomID], _ found: [LoadedRoom]) {
    let byID = Dictionary(uniqueKeysWithValues: found.map { ($0.room.id, $0) })
    for id in ids {
      guard let served = rooms[id] else { continue }
      if let loaded = byID[id] { served.loaded(loaded) }
      handle(id, .loaded(byID[id].map { ($0.room, $0.lastSeq) }))
      if let room = served.feed.room {
        // The room may have changed since it was read.
        if let newer = reader.backend.known(id), newer.accessVersion > room.accessVersion {
          handle(id, .changed(newer, concerns: nil))
        } else if served.wantedVersion > room.accessVersion {
          accessChanged(id, served.wantedVersion)
        }
        if served.mayHaveMissed {
          served.mayHaveMissed = false
          compareAtOnce([id])
        }
      }
      answerWaiters(of: served, .success(served.feed.room))
    }
  }

  private func notLoaded(_ ids: [RoomID]) {
    for id in ids {
      // Removed before anyone is refused, so that a listener that asks again meanwhile makes the room be served anew.
      guard let served = endServing(id) else { continue }
      run { perform(served.feed.handle(.loadFailed), id, served) }
      answerWaiters(of: served, .failure(AppError(.unavailable)))
    }
  }

  func answerWaiters(of served: ServedRoom, _ result: Result<Room?, AppError>) {
    for waiter in served.takeWaiters() { whenIdle { waiter(result) } }
  }

  /// Forgets all rooms, because nothing that is known of them is valid any more.
  func forgetRooms() {
    let old = rooms
    for id in old.keys { endServing(id) }
    for served in old.values { answerWaiters(of: served, .failure(AppError(.unavailable))) }
  }

  // MARK: Running

  /// Whether no input is running.
  var isIdle: Bool { !isRunning }

  /// Gives a room's feed an input. It runs after those that wait already.
  func handle(_ id: RoomID, _ input: RoomFeed.Input) {
    if isRunning {
      inputs.append((id, input))
    } else {
      run { take(id, input) }
    }
  }

  /// Calls `body` when all inputs have run; at once if none is running.
  func whenIdle(_ body: @escaping () -> Void) {
    if isRunning { whenDone.append(body) } else { body() }
  }

  /// Runs `first`, then all inputs that it caused, and those that they caused.
  private func run(_ first: () -> Void) {
    guard !isRunning else {
      first()
      return
    }
    isRunning = true
    first()
    while let next = inputs.popFirst() { take(next.id, next.input) }
    isRunning = false
    guard !isEmptying else { return }
    isEmptying = true
    // Each body may cause inputs. They run before the next body.
    while let body = whenDone.popFirst() { body() }
    isEmptying = false
  }

  private func take(_ id: RoomID, _ input: RoomFeed.Input) {
    guard let served = served(for: input, id) else { return }
    perform(served.feed.handle(narrowed(input, served)), id, served)
    if served.feed.isGone, rooms[id] === served {
      // The room may be created later, so this result is not kept: the next listener that asks makes it be read
      // again.
      endServing(id)
      answerWaiters(of: served, .success(nil))
    }
    if served.feed.isUnused, served.unusedSince == nil {
      served.unusedSince = reader.backend.now
    }
  }

  /// Adds to a change of a room whom it concerns. This is done when the input runs: only then it is known what the room
  /// was before.
  private func narrowed(_ input: RoomFeed.Input, _ served: ServedRoom) -> RoomFeed.Input {
    guard case .changed(let room?, nil) = input, let old = served.feed.room,
      let users = room.usersChanged(since: old)
    else { return input }
    return .changed(room, concerns: users.reduce(into: []) { $0.formUnion(listeners.of($1)) })
  }

  /// The room that an input is for, or nil if there is nobody left to tell.
  private func served(for input: RoomFeed.Input, _ id: RoomID) -> ServedRoom? {
    switch input {
    case .attach(let number, _, _), .leave(let number, _, _):
      // The listener may have ended while the input waited.
      guard listeners[number]?.isEnded == false else { return nil }
      let served = served(id)
      served.unusedSince = nil
      return served
    default: return rooms[id]
    }
  }

  // MARK: Outputs

  private func perform(_ outputs: [RoomFeed.Output], _ id: RoomID, _ served: ServedRoom) {
    for output in outputs { perform(output, id, served) }
  }

  private func perform(_ output: RoomFeed.Output, _ id: RoomID, _ served: ServedRoom) {
    switch output {
    case .publish(let entry): publish(entry, served)
    case .begin(let subscriber, let purpose, let seq):
      guard let listener = leaveTopic(subscriber, served), let room = served.feed.room else {
        return
      }
      listener.receive(.admitted(room, purpose, seq: seq))
    case .admit(let subscriber, let purpose, let seq):
      enter(subscriber, served) { .admitted($0, purpose, seq: seq) }
    case .reset(let subscriber, let seq):
      enter(subscriber, served) { .reset($0, seq: seq) }
    case .join(let subscriber):
      guard let listener = present(subscriber), let room = served.feed.room else { return }
      hub.subscribe(listener.connection, to: served.makeTopic(listener.kind))
      listener.receive(.joined(room))
    case .refuse(let subscriber, let purpose, .rateLimited):
      // The subscriber keeps what it has.
      present(subscriber)?.receive(.refused(id, purpose, .rateLimited))
    case .refuse(let subscriber, let purpose, let code):
      leaveTopic(subscriber, served)?.receive(.refused(id, purpose, code))
    case .left(let subscriber, let seq, let clientID):
      leaveTopic(subscriber, served)?.receive(.left(id, seq: seq, clientID: clientID))
    case .revoke(let subscriber, let code):
      leaveTopic(subscriber, served, isRevoked: true)?
        .receive(.revoked(id, channelID: served.channelID, code))
    case .readReplay(let subscriber, let number, let after, let through):
      guard leaveTopic(subscriber, served) != nil else { return }
      let piece = ReplayQueue.Piece(
        replay: .init(room: id, number: number), after: after, through: through)
      replays[subscriber, default: ReplayQueue()].add(piece)
      advanceReplays(of: subscriber)
    case .replay(let subscriber, let entries): listeners[subscriber]?.receive(.replayed(entries))
    case .awaitRoom(let subscriber, let number):
      replays[subscriber]?.sent(.init(room: id, number: number))
      advanceReplays(of: subscriber)
    case .resumed(let subscriber, let seq):
      guard let listener = leaveTopic(subscriber, served), let room = served.feed.room else {
        return
      }
      listener.receive(.resumed(room, seq: seq))
    case .waitForGap(let isRetry):
      // Unowned, here and below: feeds live as long as their loop.
      reader.backend.wait(
        milliseconds: isRetry ? Self.gapRetryMilliseconds : Self.gapMilliseconds
      ) { [unowned self] in handle(id, .gapTimeout) }
    case .readGap(let after, let through):
      guard let room = served.feed.room else { return }
      reader.readEntries(of: room, after: after, through: through) { [unowned self] in
        handle(id, .gapRead($0))
        if lastSeq(id).map({ $0 > after }) == true { services.metrics.headsHealed.add() }
      }
    case .readHead(let asOf):
      reader.readHead(of: id) { [unowned self] in handle(id, .headRead($0, asOf: asOf)) }
    case .rewound(let from, let to):
      // They belong to a log that does not exist any more.
      served.heldAcks = [:]
      services.metrics.headsRewound.add()
      services.log.error(
        "log_rewound",
        ["room_id": .init(id), "delivered": .init(Int(from)), "head": .init(Int(to))])
    }
  }

  /// Tells the subscriber the seq from which on it hears the room, then adds it to the topic.
  private func enter(
    _ subscriber: UInt64, _ served: ServedRoom, _ notification: (Room) -> RoomNotification
  ) {
    guard let listener = leaveTopic(subscriber, served), let room = served.feed.room else {
      return
    }
    listener.receive(notification(room))
    guard !listener.isEnded else { return }
    hub.subscribe(listener.connection, to: served.makeTopic(listener.kind))
  }

  /// The subscriber's listener, or nil if it has ended and only leaves its rooms.
  private func present(_ subscriber: UInt64) -> (any RoomListener)? {
    guard let listener = listeners[subscriber], !listener.isEnded else { return nil }
    return listener
  }

  /// Removes the subscriber from the topic and returns its listener. Unless its access was revoked, the listener was
  /// sent everything that the topic still held for it.
  private func leaveTopic(
    _ subscriber: UInt64, _ served: ServedRoom, isRevoked: Bool = false
  ) -> (any RoomListener)? {
    guard let listener = present(subscriber) else { return nil }
    if let topic = served.topic(listener.kind) {
      hub.unsubscribe(listener.connection, from: topic, isRevoked: isRevoked)
    }
    return listener
  }

  func publish(_ entry: Entry, _ served: ServedRoom) {
    served.movedAt = moved.move(served.id, last: served.movedAt)
    metrics.deliveries.add(served.relay.count + (served.nano?.count ?? 0))
    if !served.relay.isEmpty {
      let frame = frames.relayEntry(entry, isShared: true)
      let variants = variants(of: frame, entry, served)
      if variants.isEmpty {
        hub.publish(frame, to: served.relay)
      } else {
        hub.publish(frame, to: served.relay, variants: variants)
      }
    }
    if let nano = served.nano, !nano.isEmpty, let frame = frames.nanoMessage(entry) {
      hub.publish(frame, to: nano)
    }
    if !served.heldAcks.isEmpty, let held = served.heldAcks.removeValue(forKey: entry.seq) {
      for socket in held.sockets { listeners[socket]?.committed(held.entry) }
    }
  }

  /// The frames that some get in place of the one for all: the sender, with the `client_id`, and those who should be
  /// notified.
  private func variants(
    of frame: [UInt8], _ entry: Entry, _ served: ServedRoom
  ) -> [Hub.Variant] {
    var variants: [Hub.Variant] = []
    if entry.clientID != nil, let sender = entry.from {
      let connections = listeners.connections(of: sender)
      if !connections.isEmpty {
        variants.append(Hub.Variant(frames.forSender(frame, of: entry), for: connections))
      }
    }
    let notified = served.notified(of: entry)
    if !notified.isEmpty {
      let connections = notified.flatMap { listeners.connections(of: $0) }
      if !connections.isEmpty {
        variants.append(Hub.Variant(frames.notifying(frame), for: connections))
      }
    }
    return variants
  }
}
