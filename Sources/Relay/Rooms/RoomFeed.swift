internal import Access
internal import Basics
internal import Chat
internal import Events

/// One room as one event loop serves it: how far entries have been delivered, who is subscribed, and who is still
/// catching up. A value without socket, clock or database: inputs go in, outputs come out.
///
/// Its promise to every subscriber: the seq that it is admitted with is exact. Every later entry is published or
/// replayed to it, once and in order. No earlier entry is. And once the subscriber may not read the room any more, it
/// receives nothing.
struct RoomFeed {
  typealias SubscriberID = UInt64

  private enum State {
    /// Waits for the input `loaded`. Entries that arrive meanwhile are kept.
    case loading(entries: [Entry])
    case live(Room)
    case gone
  }

  private enum Ask {
    case enter(Purpose)
    case leave(clientID: String?)
  }

  /// The requests of one subscriber that have not been answered yet.
  private struct Asking {
    /// In the order in which they came; never empty.
    var asks: [Ask]
    var headCheck = HeadCheck.none
  }

  /// The state of the check of a client that claims to have more entries than this loop has delivered. It may be right:
  /// it may have read them from a loop or a node that is ahead of this one.
  private enum HeadCheck {
    case none
    /// The head is being read from the database.
    case asked
    /// The head is this seq; the entries up to it are being read.
    case behind(Int64)
    case done
  }

  private var state = State.loading(entries: [])
  /// How far entries have been delivered, while the room is live.
  private var order = EntryOrder(after: 0)
  /// Bounds the entries that are kept while the room is loading.
  private var limit = KeepLimit()
  /// All subscribers. Those that wait for the room or are catching up are not in the topic; the others are. There can
  /// be very many, so each costs only a reference.
  private var subscribers: [SubscriberID: Caller] = [:]
  private var asking: [SubscriberID: Asking] = [:]
  private var replays = RoomReplays()
  /// Subscribers that wait until the head was read from the database, or until this loop has reached it.
  private var headChecks: Set<SubscriberID> = []

  /// The most entries that one resume of a room replays. A client that misses more gets `reset`.
  static let maximumReplay: Int64 = 1000
  /// A dialog is made by its first message. When a socket hears of it, that message may be in the log already. If the
  /// log has at most this many entries, the socket is sent all of them, as if it had heard of the dialog in time.
  private static let newDialogEntries: Int64 = 10
  /// The most requests of one subscriber that may wait at a time.
  private static let maximumAsks = 256

  // MARK: State for others

  /// The room, if it is loaded and exists.
  var room: Room? { if case .live(let room) = state { room } else { nil } }
  /// The seq up to which this loop has delivered.
  var lastSeq: Int64? { isLive ? order.lastSeq : nil }
  private var isLive: Bool { if case .live = state { true } else { false } }
  var isLoading: Bool { if case .loading = state { true } else { false } }
  var isGone: Bool { if case .gone = state { true } else { false } }
  var isUnused: Bool { subscribers.isEmpty }

  func isSubscribed(_ id: SubscriberID) -> Bool { subscribers[id] != nil }
  /// Whether the subscriber has not received everything that was published, because the room is loading or the
  /// subscriber is catching up.
  func isBehind(_ id: SubscriberID) -> Bool {
    if replays.contains(id) { return true }
    return !asking.isEmpty && asking[id] != nil
  }

  // MARK: The machine

  /// Handles one input. Returns what to do, in order.
  mutating func handle(_ input: Input) -> [Output] {
    switch input {
    case .attach(let id, let caller, let purpose):
      return ask(.enter(purpose), of: id, caller)
    case .leave(let id, let caller, let clientID): return leave(id, caller, clientID)
    case .detach(let id):
      remove(id)
      return []
    case .renew(let id, let caller):
      guard subscribers[id] != nil else { return [] }
      subscribers[id] = caller
      return revokeThoseWithoutAccess([id])
    case .loaded(let found): return loaded(found)
    case .loadFailed: return loadFailed()
    case .changed(let room, let concerns): return changed(room, concerns)
    case .entry(let entry): return receive(entry)
    case .gapRead(let entries): return gapRead(entries)
    case .gapTimeout: return gapTimeout()
    case .head(let seq, let asOf): return headSeen(seq, asOf: asOf)
    case .headRead(let seq, let asOf): return headRead(seq, asOf: asOf)
    case .replayRead(let id, let number, let entries):
      return replayRead(id, number, entries)
    case .replayTaken(let id, let number): return continueReplay(id, number)
    }
  }

  /// The fast path for the input `entry`. Returns true if the entry is the next one and publishing it is all there is
  /// to do. Returns false, with nothing changed, if the caller must use `handle` instead.
  mutating func deliverNext(_ entry: Entry) -> Bool {
    guard isLive, headChecks.isEmpty, order.takeNext(entry) else { return false }
    replays.keep(entry)
    return true
  }

  // MARK: Coming and going

  private mutating func ask(
    _ ask: Ask, of id: SubscriberID, _ caller: Caller
  ) -> [Output] {
    if let waiting = asking[id]?.asks.count, waiting >= Self.maximumAsks {
      return Self.refusals(of: id, [ask], .rateLimited)
    }
    if subscribers[id] == nil { subscribers[id] = caller }
    asking[id, default: Asking(asks: [])].asks.append(ask)
    return answerAsks(of: id)
  }

  private mutating func remove(_ id: SubscriberID) {
    subscribers[id] = nil
    asking[id] = nil
    replays.end(id)
    headChecks.remove(id)
  }

  /// Removes all subscribers and returns each with its unanswered requests, in a fixed order.
  private mutating func removeAll() -> [(id: SubscriberID, asks: [Ask])] {
    let removed = subscribers.keys.sorted().map { ($0, asking[$0]?.asks ?? []) }
    subscribers = [:]
    asking = [:]
    replays.endAll()
    headChecks = []
    return removed
  }

  private mutating func leave(
    _ id: SubscriberID, _ caller: Caller, _ clientID: String?
  ) -> [Output] {
    guard subscribers[id] != nil, replays.contains(id) else {
      return ask(.leave(clientID: clientID), of: id, caller)
    }
    // The replay ends here. Requests that waited behind it end too; of those only `leave` is answered.
    let asks = asking[id]?.asks ?? []
    remove(id)
    let seq = lastSeq ?? 0
    return (asks + [.leave(clientID: clientID)]).compactMap { ask in
      guard case .leave(let clientID) = ask else { return nil }
      return .left(id, seq: seq, clientID: clientID)
    }
  }

  /// Answers a subscriber's requests in order, up to the first that has to wait for something.
  private mutating func answerAsks(
    of id: SubscriberID
  ) -> [Output] {
    var outputs: [Output] = []
    while let caller = subscribers[id], let waiting = asking[id], let next = waiting.asks.first {
      if replays.contains(id) { return outputs }
      switch state {
      case .loading: return outputs
      case .gone:
        remove(id)
        return outputs + Self.refusals(of: id, waiting.asks, .roomNotFound)
      case .live(let room):
        let lastSeq = order.lastSeq
        if case .enter(.resume(let last, _, _)) = next, last > lastSeq,
          RuleEngine.standing(of: caller, in: room).permissions.contains(.read)
        {
          switch waiting.headCheck {
          case .none:
            asking[id]?.headCheck = .asked
            headChecks.insert(id)
            return outputs + [.readHead(asOf: lastSeq)]
          case .asked, .behind: return outputs
          case .done: break
          }
        }
        let rest = Array(waiting.asks.dropFirst())
        asking[id] = rest.isEmpty ? nil : Asking(asks: rest)
        switch next {
        case .leave(let clientID):
          if rest.isEmpty { subscribers[id] = nil }
          let isMember = RuleEngine.standing(of: caller, in: room).isMember
          outputs.append(
            isMember
              ? .left(id, seq: lastSeq, clientID: clientID)
              : .refuse(id, .subscribe(clientID: clientID), .roomNotFound))
        case .enter(let purpose): outputs += admit(id, caller, purpose, room, lastSeq)
        }
      }
    }
    return outputs
  }

  private static func refusals(
    of id: SubscriberID, _ asks: [Ask], _ code: ErrorCode
  ) -> [Output] {
    asks.map { ask in
      switch ask {
      case .enter(let purpose): .refuse(id, purpose, code)
      // A member that may not read the room has left it, as it asked. A stranger is refused, because it must not learn
      // that the room exists.
      case .leave(let clientID):
        code == .forbidden
          ? .left(id, seq: 0, clientID: clientID)
          : .refuse(id, .subscribe(clientID: clientID), code)
      }
    }
  }

  private mutating func admit(
    _ id: SubscriberID, _ caller: Caller, _ purpose: Purpose, _ room: Room, _ lastSeq: Int64
  ) -> [Output] {
    let standing = RuleEngine.standing(of: caller, in: room)
    guard standing.permissions.contains(.read) else {
      let asks = [.enter(purpose)] + (asking[id]?.asks ?? [])
      subscribers[id] = nil
      asking[id] = nil
      return Self.refusals(of: id, asks, standing.isMember ? .forbidden : .roomNotFound)
    }
    guard case .resume(let last, _, let budget) = purpose else {
      if case .became = purpose, room.properties.pair != nil,
        (1...Self.newDialogEntries).contains(lastSeq)
      {
        let number = replays.begin(id, after: 0, through: lastSeq, isResume: false)
        return [
          .begin(id, purpose, seq: 0),
          .readReplay(id, replay: number, after: 0, through: lastSeq),
        ]
      }
      return [.admit(id, purpose, seq: lastSeq)]
    }
    let missing = lastSeq - last
    if missing == 0 { return [.resumed(id, seq: lastSeq), .join(id)] }
    guard last >= 0, missing > 0, missing <= Self.maximumReplay, budget.take(missing) else {
      return [.reset(id, seq: lastSeq)]
    }
    let number = replays.begin(id, after: last, through: lastSeq)
    return [.readReplay(id, replay: number, after: last, through: lastSeq)]
  }

  // MARK: Catching up

  private mutating func replayRead(
    _ id: SubscriberID, _ number: Int, _ entries: [Entry]?
  ) -> [Output] {
    guard replays.isCurrent(number, of: id), let lastSeq else { return [] }
    guard let entries, let progress = replays.take(entries, for: id) else {
      // Entries that cannot be read cannot be replayed. The client has to reload.
      replays.end(id)
      return [.reset(id, seq: lastSeq)] + answerAsks(of: id)
    }
    let resumed: [Output] = progress.promised.map { [.resumed(id, seq: $0)] } ?? []
    return [.replay(id, entries)] + resumed + [.awaitRoom(id, replay: number)]
  }

  /// Continues with the next part of the replay. After the last part come the entries that were published meanwhile;
  /// then the subscriber joins the topic.
  private mutating func continueReplay(
    _ id: SubscriberID, _ number: Int
  ) -> [Output] {
    guard replays.isCurrent(number, of: id), let lastSeq else { return [] }
    switch replays.next(id, lastSeq: lastSeq) {
    case .read(let after, let through)?:
      return [.readReplay(id, replay: number, after: after, through: through)]
    case .end(let later)?:
      let last: [Output] = later.isEmpty ? [] : [.replay(id, later)]
      return last + [.join(id)] + answerAsks(of: id)
    case nil: return []
    }
  }

  // MARK: The room

  private mutating func loaded(
    _ found: (room: Room, lastSeq: Int64)?
  ) -> [Output] {
    guard case .loading(let kept) = state else { return [] }
    guard let (room, lastSeq) = found else {
      state = .gone
      return refuseAll(.roomNotFound)
    }
    state = .live(room)
    order = EntryOrder(after: lastSeq)
    // Nobody is in the topic yet, so these outputs reach nobody. They only move the head forward.
    var outputs: [Output] = []
    for entry in kept where entry.seq > lastSeq { outputs += receive(entry) }
    for id in subscribers.keys.sorted() { outputs += answerAsks(of: id) }
    return outputs
  }

  private mutating func loadFailed() -> [Output] {
    guard case .loading = state else { return [] }
    return refuseAll(.unavailable)
  }

  private mutating func refuseAll(_ code: ErrorCode) -> [Output] {
    removeAll().flatMap { Self.refusals(of: $0.id, $0.asks, code) }
  }

  private mutating func changed(_ room: Room?, _ concerns: Set<SubscriberID>?) -> [Output] {
    switch state {
    case .loading, .gone:
      // The first read, which is under way, may return the state before this change. It carries a version that is too
      // old then, and the next comparison with the database corrects it.
      if room == nil, case .loading = state {
        state = .gone
        return refuseAll(.roomNotFound)
      }
      return []
    case .live(let old):
      guard let room else {
        state = .gone
        return removeAll().flatMap { id, asks in
          [.revoke(id, .roomDeleted)] + Self.refusals(of: id, asks, .roomNotFound)
        }
      }
      guard room.accessVersion > old.accessVersion else { return [] }
      state = .live(room)
      if let concerns { return revokeThoseWithoutAccess(concerns) }
      return revokeThoseWithoutAccess(subscribers.keys)
    }
  }

  /// Tells those of these subscribers that may not read the room any more, in a fixed order.
  private mutating func revokeThoseWithoutAccess(
    _ candidates: some Sequence<SubscriberID>
  ) -> [Output] {
    guard case .live(let room) = state else { return [] }
    var revoked: [(id: SubscriberID, isMember: Bool)] = []
    for id in candidates {
      guard let caller = subscribers[id] else { continue }
      let standing = RuleEngine.standing(of: caller, in: room)
      if !standing.permissions.contains(.read) { revoked.append((id, standing.isMember)) }
    }
    return revoked.sorted { $0.id < $1.id }.flatMap { id, isMember in
      let asks = asking[id]?.asks ?? []
      remove(id)
      return [.revoke(id, .revoked)]
        + Self.refusals(of: id, asks, isMember ? .forbidden : .roomNotFound)
    }
  }

  // MARK: Entries

  private mutating func receive(_ entry: Entry) -> [Output] {
    switch state {
    case .gone: return []
    case .loading(var kept):
      // Moved out instead of copied: there may be thousands.
      state = .loading(entries: [])
      if limit.admits(entry, besides: kept.count) { kept.append(entry) }
      state = .loading(entries: kept)
      return []
    case .live:
      switch order.take(entry) {
      case .next(let entries): return publish(entries) + endHeadChecks(givesUp: false)
      case .gapBegins: return [.waitForGap(isRetry: false)]
      case .unexpected: return [.readHead(asOf: order.lastSeq)]
      case .nothing: return []
      }
    }
  }

  private mutating func publish(_ entries: [Entry]) -> [Output] {
    for entry in entries { replays.keep(entry) }
    return entries.map { .publish($0) }
  }

  private mutating func gapTimeout() -> [Output] {
    guard isLive, let (after, through) = order.missing() else { return [] }
    return [.readGap(after: after, through: through)]
  }

  private mutating func headSeen(_ seq: Int64, asOf: Int64) -> [Output] {
    if seq < asOf { return rewind(to: seq) }
    // The broadcast of what was just committed is on its way, so it gets as much time as a gap. If a gap is being
    // filled already, it is filled up to this seq.
    return isLive && order.reach(seq) ? [.waitForGap(isRetry: false)] : []
  }

  private mutating func headRead(_ seq: Int64?, asOf: Int64) -> [Output] {
    order.headIsKnown()
    guard let lastSeq else { return [] }
    var rewound: [Output] = []
    if let seq, seq < asOf { rewound = rewind(to: seq) }
    for id in headChecks {
      guard case .asked? = asking[id]?.headCheck else { continue }
      asking[id]?.headCheck = seq.map { .behind($0) } ?? .done
    }
    var outputs = rewound + endHeadChecks(givesUp: false)
    if let seq, seq > lastSeq, order.reach(seq) {
      outputs.append(.readGap(after: lastSeq, through: seq))
    }
    return outputs
  }

  /// Goes back to where the log really ends. Subscribers, and those that are catching up, are told to reload.
  private mutating func rewind(to seq: Int64) -> [Output] {
    let lastSeq = order.lastSeq
    guard isLive, order.rewind(to: seq) else { return [] }
    let interrupted = replays.subscribers
    replays.endAll()
    var outputs: [Output] = [.rewound(from: lastSeq, to: seq)]
    for id in subscribers.keys.sorted() where asking[id] == nil || interrupted.contains(id) {
      outputs.append(.reset(id, seq: seq))
      outputs += answerAsks(of: id)
    }
    return outputs
  }

  /// Answers the subscribers that waited until this loop reaches the head. With `givesUp` it cannot reach it now.
  private mutating func endHeadChecks(givesUp: Bool) -> [Output] {
    guard !headChecks.isEmpty, let lastSeq else { return [] }
    var outputs: [Output] = []
    for id in headChecks.sorted() {
      switch asking[id]?.headCheck {
      case .asked: continue
      case .behind(let head) where head > lastSeq && !givesUp: continue
      default: break
      }
      headChecks.remove(id)
      asking[id]?.headCheck = .done
      outputs += answerAsks(of: id)
    }
    return outputs
  }

  private mutating func gapRead(_ entries: [Entry]?) -> [Output] {
    guard let before = lastSeq else { return [] }
    var outputs: [Output] = []
    for entry in entries ?? [] where entry.seq > before { outputs += receive(entry) }
    outputs += endHeadChecks(givesUp: entries == nil)
    guard let (after, through) = order.missing() else { return outputs }
    if let entries, !entries.isEmpty {
      // One read returns only a part of a large gap.
      outputs.append(.readGap(after: after, through: through))
    } else if entries == nil {
      outputs.append(.waitForGap(isRetry: true))
    } else {
      order.endGap()
      outputs.append(.readHead(asOf: after))
    }
    return outputs
  }
}
