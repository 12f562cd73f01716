import Access
import Basics
import Chat
import Events
import Live
import Presence
import TestSupport
import Web

@testable import Relay

/// The relay of one event loop in a simulation without sockets, clock or database. A seeded generator decides what
/// happens next.
final class RelayWorld {
  private var random: SeededRandom
  let database = WorldDatabase(rooms: 3)
  let backend: WorldBackend
  let ingest = WorldIngest()
  let authenticator = WorldAuthenticator()
  let memberships = WorldMemberships()
  let gate: DeliveryGate
  let relay: RelayLoop
  private(set) var clients: [WorldClient] = []
  private(set) var nanoClients: [WorldNanoClient] = []
  private var sockets: [any WorldSocket] { clients + nanoClients }
  /// Events of this node on their way to this loop, in the order of the node's stream.
  private var stream: [[Event]] = []
  /// Entries of other nodes on their way to this one.
  private var elsewhere: [Entry] = []
  private var nextClientID = 0
  /// The number of ended sessions.
  private var sessions: UInt64 = 0
  private let gateClock = Clock()
  /// Whether `settle` finds lost entries by `missed` events, or by the regular comparison.
  private let endsByMissed: Bool
  /// For each delivered entry, by room and seq: the lowest version of the rules that may have applied.
  private var deliveredUnder: [RoomID: [Int64: Int64]] = [:]

  final class Clock { var milliseconds: Int64 = 0 }

  /// Foreign users carry their entities in their tokens; local ones belong to organizations.
  static let foreigners = (1...3).map { UUID(high: 9, low: UInt64($0)) }
  static let locals = (1...2).map { UUID(high: 8, low: UInt64($0)) }
  static let organizations = (1...2).map { UUID(high: 7, low: UInt64($0)) }

  init(seed: UInt64) {
    random = SeededRandom(seed: seed)
    endsByMissed = seed % 2 == 0
    var dice = SeededRandom(seed: seed &+ 1_000_000)
    backend = WorldBackend(database) { Int(dice.next() % UInt64($0)) }
    let gateClock = gateClock
    gate = DeliveryGate(maximumAgeMilliseconds: 900) { gateClock.milliseconds }
    let configuration = RelayConfiguration(
      connectionFrames: nil, userFrames: nil, connectionsPerUser: nil, contentBytes: 65_536,
      jsonDepth: 16, heldBytes: 1 << 20, openingMilliseconds: 10_000)
    let hub = Hub(
      gate: gate, sendQueueBytes: .max, metrics: LiveMetrics(Metrics()), clock: { 1 },
      wake: { _ in })
    let events = EventStream(fanout: InProcessFanout())
    let services = RelayServices(
      ingest: ingest, authenticator: authenticator, memberships: memberships,
      configuration: configuration,
      node: NodeID(1), epoch: "e", events: events,
      presence: Presence(node: NodeID(1), events: events, isShared: false), log: .none,
      metrics: RelayMetrics(Metrics()))
    relay = RelayLoop(
      index: 0, services: services, backend: backend, hub: hub, gate: gate,
      metrics: LiveMetrics(Metrics()))
    // With two of three seeds, work that fits into one turn is spread over many.
    if seed % 3 != 2 {
      relay.stepSize = seed % 3 == 0 ? 1 : 2
      relay.work.maximumSteps = 1
    }
    if seed % 2 == 0 { relay.feeds.replayReads.maximum = 1 }
  }

  private func pick(_ count: Int) -> Int { Int(random.next() % UInt64(count)) }
  private func pickRoom() -> RoomID { RoomID(Int64(1 + pick(3))) }
  private func pickEntities() -> [UUID] { Self.organizations.filter { _ in pick(2) == 0 } }

  // MARK: People

  private func foreigner(_ user: UUID) -> Caller {
    let entities = pickEntities()
    database.noteEntities(entities, of: UserID(user))
    return .foreign(user, of: entities)
  }

  private func local(_ user: UUID) -> Caller {
    let id = UserID(user)
    let affiliations = database.affiliations[id] ?? database.setAffiliations(id, pickEntities())
    return .local(user, affiliations, session: sessions)
  }

  func connect() {
    guard clients.count(where: \.isOpen) < 6 else { return }
    let caller =
      pick(2) == 0 ? foreigner(Self.foreigners[pick(3)]) : local(Self.locals[pick(2)])
    connect(caller, followsAllRooms: pick(3) != 0)
  }

  @discardableResult
  func connect(_ caller: Caller, followsAllRooms: Bool) -> WorldClient {
    let client = WorldClient(relay, caller, followsAllRooms: followsAllRooms, database)
    client.deliveredUnder = { [unowned self] room, seq in deliveredUnder[room]?[seq] ?? 0 }
    clients.append(client)
    return client
  }

  private func connectNano() {
    guard nanoClients.count(where: \.isOpen) < 2 else { return }
    let user = UserID(pick(2) == 0 ? Self.foreigners[pick(3)] : Self.locals[pick(2)])
    let client = WorldNanoClient(relay, user, database) { [unowned self] room, seq in
      deliveredUnder[room]?[seq] ?? 0
    }
    nanoClients.append(client)
    client.show(makeToken(of: user.uuid))
  }

  /// Makes a token with the user's present claims, and returns it.
  private func makeToken(of user: UUID) -> String {
    nextClientID += 1
    let token = "t\(nextClientID)"
    backend.tokens[token] = Self.foreigners.contains(user) ? foreigner(user) : local(user)
    return token
  }

  private func anyOpen<Client: WorldSocket>(_ clients: [Client]) -> Client? {
    let open = clients.filter(\.isOpen)
    return open.isEmpty ? nil : open[pick(open.count)]
  }

  private func anyone() -> WorldClient? { anyOpen(clients) }

  // MARK: Steps

  func step() { noting { stepOnce() } }

  private func stepOnce() {
    switch pick(26) {
    case 24, 25: actNano()
    case 0: connect()
    case 1:
      if pick(4) == 0, let client = anyone() { client.sink.close(.normal) }
    case 2, 3, 4, 5: write()
    case 6, 7: ask()
    case 8, 9, 10: commit(1 + pick(4))
    case 11, 12: deliver()
    case 13, 14, 15: backend.answerOne(mayFail: true)
    case 16: changeRule()
    case 17:
      switch pick(60) {
      case 0: restart()
      case 1...3: endSession()
      default: changeAccount()
      }
    case 18: if pick(40) == 0 { delete() } else { renew() }
    case 19: writeElsewhere()
    case 20: arriveFromElsewhere()
    case 21: readSome()
    case 22: passTime()
    default: endTurn()
    }
  }

  private func write() {
    guard let client = anyone() else { return }
    nextClientID += 1
    // Sometimes the message is a retry of one without an answer, which may be in the log already.
    if pick(10) == 0, let (id, known) = client.unanswered.randomElement(using: &random) {
      client.write(known.data, to: known.room, id)
    } else {
      client.write("m\(nextClientID)", to: pickRoom(), "c\(nextClientID)")
    }
  }

  private func actNano() {
    guard let client = anyOpen(nanoClients), pick(8) > 0 else { return connectNano() }
    nextClientID += 1
    switch pick(12) {
    case 0: client.show(pick(4) == 0 ? "bad" : makeToken(of: client.user.uuid))
    case 1, 2, 3: client.select(pickRoom())
    case 4: if pick(4) == 0 { client.sink.close(.normal) }
    default: client.write("n\(nextClientID)")
    }
  }

  private func ask() {
    guard let client = anyone() else { return }
    let room = pickRoom()
    // Either one room, or all three, beginning with any of them.
    let rooms = pick(3) > 0 ? [room] : (0..<3).map { RoomID(1 + (room.value + Int64($0)) % 3) }
    switch pick(3) {
    case 0: client.subscribe(rooms)
    case 1: client.unsubscribe(rooms)
    default:
      let head = database.rooms[room]?.lastSeq ?? 0
      let last = client.lastCursors[room] ?? Int64(pick(Int(head) + 1))
      client.resume(room, from: last)
    }
  }

  /// Commits up to `count` submitted drafts. Their outcomes are then on their way to the loop.
  func commit(_ count: Int) {
    relay.submitDrafts()
    let events = ingest.take(count).map { database.commit($0) }
    if !events.isEmpty { stream.append(events) }
  }

  func deliver() {
    guard !stream.isEmpty else { return }
    apply(stream.removeFirst())
  }

  private func apply(_ events: [Event]) {
    // The node's caches learn of changes before its loops do.
    for case .access(.affiliationsChanged(let user, let version)) in events
    where memberships.current(user).map({ $0.version < version }) ?? false {
      memberships.remember(user, pick(2) == 0 ? nil : database.affiliations[user])
    }
    // Sometimes the loop's own job runs later, so that a client's next frame makes the loop take the events.
    if pick(4) == 0 {
      _ = relay.inbox.add(events)
    } else {
      noting { hear(events) }
    }
  }

  /// Makes the loop receive these events now.
  func hear(_ events: [Event]) {
    _ = relay.inbox.add(events)
    relay.takeEvents()
  }

  /// Runs `body`, and notes which version of the rules applied to each entry that it delivers.
  private func noting(_ body: () -> Void) {
    let before = relay.feeds.rooms.mapValues {
      ($0.feed.room?.accessVersion ?? 0, $0.feed.lastSeq ?? 0)
    }
    body()
    for (id, served) in relay.feeds.rooms {
      guard let (version, from) = before[id], let to = served.feed.lastSeq, from < to else {
        continue
      }
      for seq in (from + 1)...to where deliveredUnder[id]?[seq] == nil {
        deliveredUnder[id, default: [:]][seq] = version
      }
    }
  }

  private func changeRule() {
    let id = pickRoom()
    let subject = (Self.foreigners + Self.locals + Self.organizations)[pick(7)]
    let permissions: Permissions? =
      switch pick(4) {
      case 0: nil
      case 1: .read
      default: [.read, .write]
      }
    guard let version = database.setRule(subject, permissions, in: id) else { return }
    // The node's own changes may be in its cache before they are announced.
    if pick(2) == 0, let room = database.room(id) { backend.remember(room) }
    stream.append([.access(.roomChanged(id, version: version))])
  }

  private func delete() {
    let id = pickRoom()
    guard let version = database.delete(id) else { return }
    backend.forget(id)
    stream.append([.access(.roomDeleted(id, version: version))])
  }

  private func changeAccount() {
    let user = UserID(Self.locals[pick(2)])
    let new = database.setAffiliations(user, pickEntities())
    stream.append([.access(.affiliationsChanged(user, version: new.version))])
  }

  /// Logs the local users out: ends their present sessions, on all sockets.
  private func endSession() {
    for user in Self.locals {
      guard let session = Caller.local(user, session: sessions).sessionID else { continue }
      authenticator.end(session)
      stream.append([.access(.sessionEnded(session))])
    }
    sessions += 1
  }

  /// Announces that the database was replaced. (It is the same, so that clients can still be compared with it.)
  private func restart() {
    noting { hear([.epochChanged("e")]) }
    for id in database.rooms.keys { backend.forget(id) }
    for client in clients where client.isOpen { client.failures.append("open in another epoch") }
    // A client that has not shown a token yet knows nothing that could be outdated.
    for client in nanoClients where client.isOpen && client.socket.caller != nil {
      client.failures.append("open in another epoch")
    }
  }

  private func renew() {
    guard let client = anyone(), client.isReady else { return }
    guard Self.foreigners.contains(client.user.uuid) else {
      client.send(#"{"type":"auth","token":"bad"}"#)
      return
    }
    let token = makeToken(of: pick(10) == 0 ? Self.foreigners[pick(3)] : client.user.uuid)
    client.send(#"{"type":"auth","token":"\#(token)"}"#)
  }

  private func writeElsewhere() {
    let id = pickRoom()
    guard database.room(id) != nil else { return }
    elsewhere.append(database.append(to: id))
  }

  /// Lets an entry of another node arrive: usually the oldest, sometimes another one. Some entries are lost, and some
  /// of those losses are detected.
  private func arriveFromElsewhere() {
    guard !elsewhere.isEmpty else { return }
    let entry = elsewhere.remove(at: pick(3) == 0 ? pick(elsewhere.count) : 0)
    let origin = Origin(node: NodeID(2), loop: 0, socket: 1)
    guard backend.followed[entry.roomID] != nil else { return }
    switch pick(12) {
    case 0: break
    case 1: apply([.missed([Shard(of: entry.roomID)])])
    default: apply([.entry(entry, origin: origin)])
    }
  }

  private func readSome() {
    let open = sockets.filter(\.isOpen)
    guard !open.isEmpty else { return }
    let client = open[pick(open.count)]
    client.sink.window = pick(3) == 0 ? pick(300) : .max
    read(client, pick(2000))
  }

  private func read(_ client: any WorldSocket, _ count: Int) {
    guard client.handler.mayWrite else { return }
    if client.sink.queuedBytes > 0, client.sink.read(count) { client.handler.drained() }
    client.read()
  }

  private func passTime() {
    switch pick(4) {
    case 0: gateClock.milliseconds += Int64(pick(700))
    case 1: apply([.compared(at: gateClock.milliseconds)])
    case 2:
      _ = relay.feeds.compareSomeHeads()
      relay.feeds.beginPeriod()
    default:
      noting { backend.pass(Int64(pick(2000))) }
      for client in sockets where client.isOpen { client.handler.tick(now: backend.now) }
    }
  }

  func endTurn() {
    relay.submitDrafts()
    relay.hub.didWake()
    relay.hub.endTurn()
    for client in sockets { client.read() }
  }

  // MARK: The end

  /// Finds lost entries, by the regular comparison of heads or by one that is requested.
  private func findWhatIsMissing() {
    if endsByMissed {
      apply([.missed(Shard.of(Array(database.rooms.keys)))])
    } else {
      _ = relay.feeds.compareSomeHeads()
    }
  }

  /// Whether this loop follows exactly the rooms that it serves, each once.
  var followsWhatItServes: Bool {
    backend.followed == relay.feeds.rooms.mapValues { _ in 1 }
  }

  func closeGate() { gateClock.milliseconds += 1000 }
  func openGate() { hear([.compared(at: gateClock.milliseconds)]) }

  /// Appends an entry to each room, and delivers it to all listeners.
  func writeToAll() {
    for id in database.rooms.keys.sorted() where database.room(id) != nil {
      let origin = Origin(node: NodeID(2), loop: 0, socket: 1)
      let entry = database.append(to: id)
      noting { hear([.entry(entry, origin: origin)]) }
    }
    endTurn()
    for client in sockets { read(client, .max) }
  }

  /// Lets everything in flight arrive, and finds lost entries by comparison.
  func settle() {
    // This takes longer if a client asked for a lot in a room that has been deleted.
    for round in 0..<300
    where round < 60 || clients.contains(where: { $0.isOpen && !$0.unanswered.isEmpty }) {
      for client in sockets { client.sink.window = .max }
      while !stream.isEmpty || !ingest.isEmpty {
        deliver()
        commit(100)
      }
      var events: [Event] = []
      for (id, stored) in database.rooms {
        events.append(
          .access(
            stored.isDeleted
              ? .roomDeleted(id, version: stored.room.accessVersion + 1)
              : .roomChanged(id, version: stored.room.accessVersion)))
      }
      for (user, affiliations) in database.affiliations {
        events.append(.access(.affiliationsChanged(user, version: affiliations.version)))
      }
      noting { hear(events + [.compared(at: gateClock.milliseconds)]) }
      while backend.hasPending { noting { backend.answerOne(mayFail: false) } }
      noting { backend.pass(6000) }
      for client in sockets where client.isOpen { client.handler.tick(now: backend.now) }
      if round % 3 == 0 { findWhatIsMissing() }
      endTurn()
      for client in sockets { read(client, .max) }
    }
  }
}
