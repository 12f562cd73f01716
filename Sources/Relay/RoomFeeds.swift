internal import Access
package import Basics
internal import Chat
internal import EventLoop
internal import Events
internal import Live

/// What a socket's protocol hears of its rooms. Called on the loop.
protocol RoomListener: AnyObject {
  var connection: Hub.Connection { get }
  var caller: Caller? { get }
  /// Which of a room's two topics it is in.
  var dialect: Dialect { get }
  /// Whether it wants this room if it may read it, without having asked for it.
  func follows(_ roomID: RoomID) -> Bool

  // What a `RoomFeed` decided, in order; `RoomFeed.Output` says what each means.
  func admitted(to room: Room, _ purpose: RoomFeed.Purpose, seq: Int64)
  func refused(_ roomID: RoomID, _ purpose: RoomFeed.Purpose, _ code: ErrorCode)
  func revoked(_ roomID: RoomID, channelID: String, _ code: ErrorCode)
  func left(_ roomID: RoomID, seq: Int64, clientID: String?)
  func replay(_ entries: [Entry])
  func resumed(_ room: Room, seq: Int64)
  func joined(_ room: Room)
  func reset(_ room: Room, seq: Int64)
  /// Whether so many entries may still be replayed for the current `resume`.
  func claimReplay(_ count: Int64) -> Bool
  /// An entry that this socket sent is in the log.
  func committed(_ entry: Entry)
  func receive(_ receipt: Receipt)
  /// The session that the caller's credential names has ended.
  func sessionEnded()
  func tick(now: Int64)
}

/// The two protocols that share everything behind them.
enum Dialect { case relay, nano }

/// The rooms that one event loop serves: carries out what each `RoomFeed` decides. On the loop only.
final class RoomFeeds {
  let loop: EventLoop
  let hub: Hub
  var frames = FrameWriter()
  private let history: MessageHistory
  private let directory: RoomDirectory
  private let metrics: LiveMetrics
  private let relayMetrics: RelayMetrics
  private let log: Log

  /// A feed with the topics of its two dialects.
  private final class Served {
    var feed = RoomFeed()
    let relay = Hub.Topic()
    let nano = Hub.Topic()
    /// Version that an event named while the room was being read.
    var wantedVersion: Int64 = 0
    var isReloading = false
    var unusedSince: Int64?
    /// Acknowledgements that wait for their entry's broadcast, by seq.
    var heldAcks: [Int64: [UInt64]] = [:]
    var waiters: [(Result<Room?, AppError>) -> Void] = []

    func topic(_ dialect: Dialect) -> Hub.Topic { dialect == .relay ? relay : nano }
  }

  private var rooms: [RoomID: Served] = [:]
  private var listeners: [UInt64: any RoomListener] = [:]
  private var listenersByUser: [UserID: Set<UInt64>] = [:]
  private var listenersByEntity: [UUID: Set<UInt64>] = [:]
  private var replays: [UInt64: Replays] = [:]

  /// What one listener still has to be sent of several rooms' logs: one piece at a time, and the next
  /// when it has taken that, so that neither its queue nor our memory fills.
  private struct Replays {
    struct Piece {
      let room: RoomID
      let number: Int
      let after: Int64
      let through: Int64
    }

    var waiting: [Piece] = []
    var isReading = false
    /// While a replay is asked for its next piece.
    var isContinuing = false
    /// The replay whose last piece is on its way to the listener.
    var untaken: (room: RoomID, number: Int)?
    /// Entries to read at once, by the size of the last ones.
    var entriesPerPiece: Int64 = 32
  }

  private static let gapMilliseconds = 20
  private static let gapRetryMilliseconds = 1000
  private static let unusedMilliseconds: Int64 = 30_000
  private static let entriesPerGapRead: Int64 = 256
  /// Rooms in one reading: whoever asks for thousands lets others have their turn.
  private static let roomsPerRead = 256
  /// Bytes of content in one piece of a replay, beyond which its first entry goes alone; and bytes
  /// that a listener may still have to take when it is sent the next.
  private static let pieceBytes = 64 * 1024

  init(
    loop: EventLoop, hub: Hub, history: MessageHistory, directory: RoomDirectory,
    metrics: LiveMetrics, relayMetrics: RelayMetrics, log: Log
  ) {
    self.loop = loop
    self.hub = hub
    self.history = history
    self.directory = directory
    self.metrics = metrics
    self.relayMetrics = relayMetrics
    self.log = log
  }

  // MARK: Listeners

  /// From here on the listener is found by its user and entities, and hears of its messages.
  func add(_ listener: any RoomListener) {
    guard let caller = listener.caller else { return }
    let number = listener.connection.number
    listeners[number] = listener
    listenersByUser[caller.userID, default: []].insert(number)
    for entity in caller.entities { listenersByEntity[entity, default: []].insert(number) }
  }

  /// Forgets the listener everywhere; it was in these rooms.
  func remove(_ listener: any RoomListener, from roomIDs: some Sequence<RoomID>) {
    let number = listener.connection.number
    for id in roomIDs { detach(listener, from: id) }
    replays[number] = nil
    guard listeners.removeValue(forKey: number) != nil, let caller = listener.caller else { return }
    unindex(number, caller)
  }

  private func unindex(_ number: UInt64, _ caller: Caller) {
    listenersByUser[caller.userID]?.remove(number)
    if listenersByUser[caller.userID]?.isEmpty == true { listenersByUser[caller.userID] = nil }
    for entity in caller.entities {
      listenersByEntity[entity]?.remove(number)
      if listenersByEntity[entity]?.isEmpty == true { listenersByEntity[entity] = nil }
    }
  }

  /// The listener's claims changed from `old`: rooms that it may not read any more are revoked.
  func renewed(_ listener: any RoomListener, from old: Caller, in roomIDs: some Sequence<RoomID>) {
    guard let caller = listener.caller else { return }
    unindex(listener.connection.number, old)
    add(listener)
    for id in roomIDs { handle(id, .renew(listener.connection.number, caller)) }
  }

  // MARK: Subscriptions

  func attach(_ listener: any RoomListener, to id: RoomID, _ purpose: RoomFeed.Purpose) {
    guard let caller = listener.caller else { return }
    served(id).unusedSince = nil
    handle(id, .attach(listener.connection.number, caller, purpose))
  }

  /// Ends what `attach` began, and answers with `left`. Only for rooms that it was attached to.
  func leave(_ listener: any RoomListener, _ id: RoomID, clientID: String?) {
    handle(id, .leave(listener.connection.number, clientID: clientID))
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

  /// As `withRoom`, with the room as the database has it now.
  func withFreshRoom(_ id: RoomID, _ body: @escaping (Result<Room?, AppError>) -> Void) {
    let feeds = LoopBound(self, on: loop)
    let callback = LoopBound(body, on: loop)
    loop.task { [directory] in
      do {
        let room = try await directory.reload(id)
        if feeds.value.rooms[id] != nil { feeds.value.handle(id, .changed(room)) }
        callback.value(.success(room))
      } catch {
        callback.value(.failure(AppError(.unavailable, underlying: error)))
      }
    }
  }

  /// Reads those of the rooms that are not served yet, together: before each is asked for.
  func prepare(_ ids: [RoomID]) { load(ids.filter { rooms[$0] == nil }) }

  private func served(_ id: RoomID) -> Served {
    if let known = rooms[id] { return known }
    load([id])
    // `load` has just put it there.
    return rooms[id] ?? Served()
  }

  // MARK: Events

  /// Takes what a commit brought, in order.
  func apply(_ events: [Event]) {
    loop.preconditionOnLoop()
    for event in events {
      switch event {
      case .entry(let entry, let origin):
        if rooms[entry.roomID] != nil { handle(entry.roomID, .entry(entry)) }
        if let origin, origin.loop == loop.index { acknowledge(entry, origin.socket) }
      case .receipt(let receipt):
        if receipt.draft.origin.loop == loop.index {
          listeners[receipt.draft.origin.socket]?.receive(receipt)
        }
      case .access(.sessionEnded(let id)): end(session: id)
      case .access(.roomChanged(let id, let version)): accessChanged(id, version)
      case .access(.roomDeleted(let id, _)):
        if rooms[id] != nil { handle(id, .changed(nil)) }
      }
    }
  }

  /// The ack of an entry follows its broadcast on the sender's socket.
  private func acknowledge(_ entry: Entry, _ socket: UInt64) {
    guard let listener = listeners[socket] else { return }
    if let served = rooms[entry.roomID], let lastSeq = served.feed.lastSeq, lastSeq < entry.seq,
      served.feed.isSubscribed(socket)
    {
      served.heldAcks[entry.seq, default: []].append(socket)
    } else {
      listener.committed(entry)
    }
  }

  private func end(session: SessionID) {
    // Rare, and a session has few sockets; the list of all is short enough to look through.
    for listener in Array(listeners.values) where listener.caller?.sessionID == session {
      listener.sessionEnded()
    }
  }

  private func accessChanged(_ id: RoomID, _ version: Int64) {
    if let served = rooms[id] {
      if served.feed.isLoading {
        served.wantedVersion = max(served.wantedVersion, version)
      } else if served.feed.room.map({ $0.accessVersion < version }) == true {
        reload(id, served, version)
      }
    }
    guard !listeners.isEmpty else { return }
    if let room = directory.cached(id), room.accessVersion >= version {
      offer(room)
    } else {
      let feeds = LoopBound(self, on: loop)
      loop.task { [directory] in
        // Where it cannot be read now, the next comparison with the database brings it up again.
        if let room = try? await directory.room(id, atLeast: version) { feeds.value.offer(room) }
      }
    }
  }

  private func reload(_ id: RoomID, _ served: Served, _ version: Int64) {
    if let room = directory.cached(id), room.accessVersion >= version {
      handle(id, .changed(room))
      return
    }
    guard !served.isReloading else { return }
    served.isReloading = true
    let feeds = LoopBound(self, on: loop)
    loop.task { [directory, log] in
      do {
        let room = try await directory.reload(id)
        feeds.value.reloaded(id, room)
      } catch {
        log.warning("room_reload_failed", ["room_id": .init(id), "cause": .init("\(error)")])
        feeds.value.rooms[id]?.isReloading = false
      }
    }
  }

  private func reloaded(_ id: RoomID, _ room: Room?) {
    rooms[id]?.isReloading = false
    if rooms[id] != nil { handle(id, .changed(room)) }
  }

  /// Subscribes those who follow all rooms and may read this one now.
  private func offer(_ room: Room) {
    var numbers = listenersByUser[room.ownerUser] ?? []
    for rule in room.rules where rule.isAccepted {
      numbers.formUnion(listenersByUser[UserID(rule.subject)] ?? [])
      numbers.formUnion(listenersByEntity[rule.subject] ?? [])
    }
    for number in numbers.sorted() {
      guard let listener = listeners[number], listener.follows(room.id),
        let caller = listener.caller,
        !isSubscribed(listener, to: room.id),
        RuleEngine.standing(of: caller, in: room).permissions.contains(.read)
      else { continue }
      attach(listener, to: room.id, .became)
    }
  }

  // MARK: Carrying out

  private func handle(_ id: RoomID, _ input: RoomFeed.Input) {
    guard let served = rooms[id] else { return }
    let outputs = served.feed.handle(input) { [listeners] subscriber, count in
      listeners[subscriber]?.claimReplay(count) ?? false
    }
    for output in outputs { carryOut(output, id, served) }
    // Not there now does not mean never: the next who asks finds out anew.
    if served.feed.isGone, rooms[id] === served { rooms[id] = nil }
    if served.feed.isUnused, served.unusedSince == nil {
      served.unusedSince = Monotonic.milliseconds
    }
  }

  private func carryOut(_ output: RoomFeed.Output, _ id: RoomID, _ served: Served) {
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
      read(
        Replays.Piece(room: id, number: number, after: after, through: through), for: subscriber)
    case .replay(let subscriber, let entries): listeners[subscriber]?.replay(entries)
    case .resumed(let subscriber, let seq):
      guard let listener = leaveTopic(subscriber, served), let room = served.feed.room else {
        return
      }
      listener.resumed(room, seq: seq)
    case .awaitRoom(let subscriber, let number):
      replays[subscriber]?.untaken = (id, number)
      goOn(subscriber)
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
      leaveTopic(subscriber, served)?.revoked(id, channelID: id.description, code)
    case .waitForGap(let isRetry):
      loop.schedule(after: isRetry ? Self.gapRetryMilliseconds : Self.gapMilliseconds) {
        [unowned self] in handle(id, .gapTimeout)
      }
    case .readGap(let after, let through):
      relayMetrics.headsHealed.add()
      readLog(id, after, min(through, after + Self.entriesPerGapRead)) { feeds, entries in
        feeds.handle(id, .gapRead(entries))
      }
    }
  }

  /// The subscriber's listener, which has been sent what the topic still held for it, and hears the
  /// topic no more.
  private func leaveTopic(_ subscriber: UInt64, _ served: Served) -> (any RoomListener)? {
    guard let listener = listeners[subscriber] else { return nil }
    hub.unsubscribe(listener.connection, from: served.topic(listener.dialect))
    return listener
  }

  // MARK: Replays

  private func read(_ piece: Replays.Piece, for subscriber: UInt64) {
    // The room that is being replayed goes first, so that rooms are made whole one after the other.
    let queue = replays[subscriber]?.waiting ?? []
    let isNext = queue.isEmpty || replays[subscriber]?.isContinuing == true
    replays[subscriber, default: Replays()].waiting.insert(piece, at: isNext ? 0 : queue.count)
    goOn(subscriber)
  }

  /// The listener has taken all that was sent to it.
  func drained(_ listener: any RoomListener) { goOn(listener.connection.number) }

  /// Reads the next piece for a listener, if it has room for it.
  private func goOn(_ subscriber: UInt64) {
    guard let listener = listeners[subscriber], replays[subscriber]?.isReading == false else {
      return
    }
    hub.flush(listener.connection)
    // Else `drained` comes back to this.
    guard hub.queuedBytes(of: listener.connection) <= Self.pieceBytes else { return }
    if let taken = replays[subscriber]?.untaken {
      replays[subscriber]?.untaken = nil
      replays[subscriber]?.isContinuing = true
      handle(taken.room, .replayTaken(subscriber, replay: taken.number))
      replays[subscriber]?.isContinuing = false
    }
    guard replays[subscriber]?.isReading == false, replays[subscriber]?.untaken == nil,
      let piece = replays[subscriber]?.waiting.first,
      let count = replays[subscriber]?.entriesPerPiece
    else { return }
    replays[subscriber]?.waiting.removeFirst()
    replays[subscriber]?.isReading = true
    let through = min(piece.through, piece.after + count)
    readLog(piece.room, piece.after, through) { feeds, entries in
      feeds.pieceRead(piece, entries, for: subscriber)
    }
  }

  private func pieceRead(_ piece: Replays.Piece, _ entries: [Entry]?, for subscriber: UInt64) {
    guard replays[subscriber] != nil else { return }
    replays[subscriber]?.isReading = false
    var fitting = entries
    if let entries, !entries.isEmpty {
      var bytes = 0
      let all = entries.reduce(0) { $0 + $1.data.utf8.count }
      let count = entries.prefix { entry in
        bytes += entry.data.utf8.count
        return bytes <= Self.pieceBytes
      }.count
      fitting = Array(entries.prefix(max(1, count)))
      let average = max(64, all / entries.count)
      replays[subscriber]?.entriesPerPiece = Int64(max(1, Self.pieceBytes / average))
    }
    handle(piece.room, .replayRead(subscriber, replay: piece.number, fitting))
    // Also where that replay is over meanwhile: others may wait.
    goOn(subscriber)
  }

  private func publish(_ entry: Entry, _ served: Served) {
    metrics.deliveries.add(served.relay.count + served.nano.count)
    if !served.relay.isEmpty {
      let frame = frames.relayMessage(entry, withClientID: false)
      if entry.clientID != nil, let senders = listenersByUser[entry.from] {
        let connections = senders.sorted().compactMap { listeners[$0]?.connection }
        hub.publish(
          frame, to: served.relay, except: connections,
          theirs: frames.relayMessage(entry, withClientID: true))
      } else {
        hub.publish(frame, to: served.relay)
      }
    }
    if !served.nano.isEmpty { hub.publish(frames.nanoMessage(entry), to: served.nano) }
    if !served.heldAcks.isEmpty, let sockets = served.heldAcks.removeValue(forKey: entry.seq) {
      for socket in sockets { listeners[socket]?.committed(entry) }
    }
  }

  /// A frame to one listener, after what its room's topic has for it so far.
  func send(_ frame: [UInt8], to listener: any RoomListener, after id: RoomID?) {
    let topic = id.flatMap { rooms[$0]?.topic(listener.dialect) }
    hub.send(frame, to: listener.connection, after: topic)
  }

  // MARK: Reading

  /// Starts to serve rooms that are not served yet: entries are kept from here on, then the rooms and
  /// their heads are read, some at a time.
  private func load(_ ids: [RoomID]) {
    let ids = Set(ids).sorted()
    guard !ids.isEmpty else { return }
    for id in ids { rooms[id] = Served() }
    let feeds = LoopBound(self, on: loop)
    loop.task { [history, directory, log] in
      for start in stride(from: 0, to: ids.count, by: Self.roomsPerRead) {
        let some = Array(ids[start..<min(start + Self.roomsPerRead, ids.count)])
        do {
          let found = try await history.heads(some)
          for (room, _) in found { directory.put(room) }
          feeds.value.loaded(some, found)
        } catch {
          log.warning("rooms_not_loaded", ["count": .init(some.count), "cause": .init("\(error)")])
          feeds.value.notLoaded(some)
        }
      }
    }
  }

  private func loaded(_ ids: [RoomID], _ found: [(room: Room, lastSeq: Int64)]) {
    let byID = Dictionary(uniqueKeysWithValues: found.map { ($0.room.id, $0) })
    for id in ids {
      guard let served = rooms[id] else { continue }
      handle(id, .loaded(byID[id]))
      if let room = served.feed.room {
        // The room may have changed between the reading and now.
        if let newer = directory.cached(id), newer.accessVersion > room.accessVersion {
          handle(id, .changed(newer))
        } else if served.wantedVersion > room.accessVersion {
          reload(id, served, served.wantedVersion)
        }
      }
      let waiters = served.waiters
      served.waiters = []
      for waiter in waiters { waiter(.success(served.feed.room)) }
    }
  }

  private func notLoaded(_ ids: [RoomID]) {
    for id in ids {
      // Forgotten first: who asks again while being refused is served anew.
      guard let served = rooms.removeValue(forKey: id) else { continue }
      for output in served.feed.handle(.loadFailed, claim: { _, _ in false }) {
        carryOut(output, id, served)
      }
      for waiter in served.waiters { waiter(.failure(AppError(.unavailable))) }
    }
  }

  private func readLog(
    _ id: RoomID, _ after: Int64, _ through: Int64,
    _ then: @escaping @Sendable (RoomFeeds, [Entry]?) -> Void
  ) {
    let feeds = LoopBound(self, on: loop)
    guard let room = rooms[id]?.feed.room else {
      // Gone meanwhile. Not in the middle of what asked for it.
      loop.execute { then(feeds.value, nil) }
      return
    }
    loop.task { [history, log] in
      do {
        let entries = try await history.entries(in: room, after: after, through: through)
        then(feeds.value, entries)
      } catch {
        log.warning("log_not_read", ["room_id": .init(id), "cause": .init("\(error)")])
        then(feeds.value, nil)
      }
    }
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
    let ids = rooms.filter { $0.value.feed.room != nil }.map(\.key)
    guard !ids.isEmpty else { return }
    let feeds = LoopBound(self, on: loop)
    loop.task { [history, log] in
      do {
        for (id, seq) in try await history.lastSeqs(ids) { feeds.value.handle(id, .head(seq)) }
      } catch {
        log.warning("heads_not_compared", ["cause": .init("\(error)")])
      }
    }
  }

  /// The seqs up to which the given rooms have been delivered on this loop.
  func lastSeq(_ id: RoomID) -> Int64? { rooms[id]?.feed.lastSeq }
}

/// What the relay tells of itself.
package struct RelayMetrics: Sendable {
  let headsHealed: Counter
  let framesRefused: Counter

  package init(_ metrics: Metrics) {
    headsHealed = metrics.counter(
      "martlet_room_heads_healed_total", "Gaps in delivery that were filled from the log.")
    framesRefused = metrics.counter(
      "martlet_frames_refused_total", "Frames refused because of a rate.")
  }
}
