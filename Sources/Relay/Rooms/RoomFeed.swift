internal import Access
internal import Basics
internal import Chat
internal import Events

/// One room as one event loop serves it: where delivery stands, who hears it, and who is being made
/// whole. A value without socket, clock or database: inputs in, outputs out.
///
/// What it keeps true for every subscriber: the seq that it is admitted with is exact. Every later
/// entry is published or replayed to it, once and in order; nothing earlier is; and nothing at all
/// once it may not read any more.
struct RoomFeed {
  typealias SubscriberID = UInt64

  private enum State {
    /// Waits for `loaded`; entries that arrive meanwhile are kept.
    case loading(entries: [Entry])
    case live(Room, lastSeq: Int64)
    case gone
  }

  private enum Ask {
    case enter(Purpose)
    case leave(clientID: String?)
  }

  /// How far one subscriber has been made whole.
  private struct Replay {
    /// Tells this replay's reads from those of earlier ones, which may still be under way.
    let number: Int
    /// The seq that `resumed` will name: the head when it was asked for.
    let promised: Int64
    /// The last entry that was sent.
    var sent: Int64
    /// Up to where the log is being read; `later` goes on from there.
    var through: Int64
    /// What was published since, as far as it is kept.
    var later: [Entry] = []
    var laterBytes = 0
    /// Too much came to be kept: the log has it.
    var isLaterIncomplete = false

    /// Keeps an entry that was published, if there is not too much of it.
    mutating func keep(_ entry: Entry) {
      laterBytes += entry.cost
      if laterBytes > RoomFeed.maximumLaterBytes { isLaterIncomplete = true }
      if !isLaterIncomplete { later.append(entry) }
    }
  }

  /// What one subscriber asked for and has not been answered.
  private struct Asking {
    /// In order, at least one.
    var asks: [Ask]
    var headCheck = HeadCheck.none
  }

  /// Whether a client that says it has more than this loop has delivered is right: it may come from a
  /// loop or a node that is ahead.
  private enum HeadCheck {
    case none
    /// The head is being read.
    case asked
    /// The head is this, and what is missing here is being read.
    case behind(Int64)
    case done
  }

  private var state = State.loading(entries: [])
  /// In the topic, unless they wait for the room or are being made whole. There are many: a reference for
  /// each.
  private var subscribers: [SubscriberID: Caller] = [:]
  private var asking: [SubscriberID: Asking] = [:]
  /// Those of the subscribers that are sent the log, a piece at a time.
  private var replays: [SubscriberID: Replay] = [:]
  /// Entries beyond a gap, by seq.
  private var ahead: [Int64: Entry] = [:]
  /// The seq up to which a gap is being filled; nil while there is none.
  private var gapEnd: Int64?
  /// Subscribers that wait for the head in the database, or for this loop to reach it.
  private var headChecks: Set<SubscriberID> = []
  private var replayCount = 0
  /// The id of the last entry that was delivered.
  private var lastID: MessageID?
  /// Whether the head is being read because of an entry that should not have come.
  private var isHeadDoubted = false
  private var keptBytes = 0

  /// Entries that one room's resume replays at most; beyond it `reset`.
  static let maximumReplay: Int64 = 1000
  /// Entries kept beyond a gap, or while loading, and their bytes; the log has them all the same.
  private static let maximumKept = 4096
  private static let maximumKeptBytes = 4 * 1024 * 1024
  /// What one subscriber may ask for while earlier asks wait.
  private static let maximumAsks = 256
  /// Bytes of content kept for one subscriber that is being made whole.
  private static let maximumLaterBytes = 64 * 1024

  // MARK: What others may see

  /// The room, once it is loaded and while it exists.
  var room: Room? { if case .live(let room, _) = state { room } else { nil } }
  /// The seq up to which this loop has delivered.
  var lastSeq: Int64? { if case .live(_, let lastSeq) = state { lastSeq } else { nil } }
  var isLoading: Bool { if case .loading = state { true } else { false } }
  var isGone: Bool { if case .gone = state { true } else { false } }
  var isUnused: Bool { subscribers.isEmpty }

  func isSubscribed(_ id: SubscriberID) -> Bool { subscribers[id] != nil }
  /// Whether it has not heard all that was published: it waits for the room, or for older entries.
  func isBehind(_ id: SubscriberID) -> Bool {
    if !replays.isEmpty, replays[id] != nil { return true }
    return !asking.isEmpty && asking[id] != nil
  }

  // MARK: The machine

  /// Takes one input; returns what to do, in order.
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
      return revokeThoseWithoutAccess()
    case .loaded(let found): return loaded(found)
    case .loadFailed: return loadFailed()
    case .changed(let room): return changed(room)
    case .entry(let entry): return receive(entry)
    case .gapRead(let entries): return gapRead(entries)
    case .gapTimeout: return gapTimeout()
    case .head(let seq, let asOf): return headSeen(seq, asOf: asOf)
    case .headRead(let seq, let asOf): return headRead(seq, asOf: asOf)
    case .replayRead(let id, let number, let entries):
      return replayRead(id, number, entries)
    case .replayTaken(let id, let number): return goOn(id, number)
    }
  }

  /// The common case of `entry`: true where it is the next, nobody is being made whole, and all that there
  /// is to do is to publish it. False, and nothing has changed, where `handle` is to be asked.
  mutating func deliverNext(_ entry: Entry) -> Bool {
    guard case .live(let room, let lastSeq) = state, entry.seq == lastSeq + 1, replays.isEmpty,
      ahead.isEmpty, headChecks.isEmpty
    else { return false }
    state = .live(room, lastSeq: entry.seq)
    lastID = entry.id
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
    replays[id] = nil
    headChecks.remove(id)
  }

  /// Removes all; returns them, each with what it asked for, in a fixed order.
  private mutating func removeAll() -> [(id: SubscriberID, asks: [Ask])] {
    let removed = subscribers.keys.sorted().map { ($0, asking[$0]?.asks ?? []) }
    subscribers = [:]
    asking = [:]
    replays = [:]
    headChecks = []
    return removed
  }

  private mutating func leave(
    _ id: SubscriberID, _ caller: Caller, _ clientID: String?
  ) -> [Output] {
    guard subscribers[id] != nil, replays[id] != nil else {
      return ask(.leave(clientID: clientID), of: id, caller)
    }
    // The replay ends now; so does what waited behind it, unanswered but by `left`.
    let asks = asking[id]?.asks ?? []
    remove(id)
    let seq = lastSeq ?? 0
    return (asks + [.leave(clientID: clientID)]).compactMap { ask in
      guard case .leave(let clientID) = ask else { return nil }
      return .left(id, seq: seq, clientID: clientID)
    }
  }

  /// Answers what a subscriber asked for, in order, until something takes time.
  private mutating func answerAsks(
    of id: SubscriberID
  ) -> [Output] {
    var outputs: [Output] = []
    while let caller = subscribers[id], let waiting = asking[id], let next = waiting.asks.first {
      if replays[id] != nil { return outputs }
      switch state {
      case .loading: return outputs
      case .gone:
        remove(id)
        return outputs + Self.refusals(of: id, waiting.asks, .roomNotFound)
      case .live(let room, let lastSeq):
        if case .enter(.resume(let last, _, _)) = next, last > lastSeq {
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
      // A member hears nothing, as it wanted; a stranger learns nothing.
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
      return [.admit(id, purpose, seq: lastSeq)]
    }
    let missing = lastSeq - last
    if missing == 0 { return [.resumed(id, seq: lastSeq), .join(id)] }
    guard last >= 0, missing > 0, missing <= Self.maximumReplay, budget.take(missing) else {
      return [.reset(id, seq: lastSeq)]
    }
    replayCount += 1
    replays[id] = Replay(number: replayCount, promised: lastSeq, sent: last, through: lastSeq)
    return [.readReplay(id, replay: replayCount, after: last, through: lastSeq)]
  }

  // MARK: Making whole

  private func replay(_ id: SubscriberID, _ number: Int) -> Replay? {
    guard let replay = replays[id], replay.number == number else { return nil }
    return replay
  }

  private mutating func replayRead(
    _ id: SubscriberID, _ number: Int, _ entries: [Entry]?
  ) -> [Output] {
    guard var replay = replay(id, number) else { return [] }
    guard let entries, let first = entries.first, let last = entries.last,
      first.seq == replay.sent + 1, last.seq <= replay.through,
      last.seq - first.seq == Int64(entries.count - 1)
    else {
      // What cannot be read cannot make it whole: a reload does.
      replays[id] = nil
      return [.reset(id, seq: lastSeq ?? replay.through)] + answerAsks(of: id)
    }
    let isPromiseKept = replay.sent < replay.promised && last.seq >= replay.promised
    replay.sent = last.seq
    replays[id] = replay
    var outputs: [Output] = [.replay(id, entries)]
    if isPromiseKept { outputs.append(.resumed(id, seq: replay.promised)) }
    return outputs + [.awaitRoom(id, replay: number)]
  }

  /// The next piece, or the end: what was published meanwhile, and then the topic.
  private mutating func goOn(
    _ id: SubscriberID, _ number: Int
  ) -> [Output] {
    guard var replay = replay(id, number), let lastSeq else { return [] }
    if replay.sent == replay.through, replay.isLaterIncomplete {
      replay.through = lastSeq
      replay.later = []
      replay.laterBytes = 0
      replay.isLaterIncomplete = false
    }
    if replay.sent < replay.through {
      replays[id] = replay
      return [.readReplay(id, replay: number, after: replay.sent, through: replay.through)]
    }
    replays[id] = nil
    let later: [Output] = replay.later.isEmpty ? [] : [.replay(id, replay.later)]
    return later + [.join(id)] + answerAsks(of: id)
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
    state = .live(room, lastSeq: lastSeq)
    // Nobody is in the topic yet, so these reach nobody: they only move the head on.
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

  private mutating func changed(_ room: Room?) -> [Output] {
    switch state {
    case .loading, .gone:
      // What is being read may be the state before the change; its version tells, and the next
      // comparison with the database puts it right.
      if room == nil, case .loading = state {
        state = .gone
        return refuseAll(.roomNotFound)
      }
      return []
    case .live(let old, let lastSeq):
      guard let room else {
        state = .gone
        ahead = [:]
        return removeAll().flatMap { id, asks in
          [.revoke(id, .roomDeleted)] + Self.refusals(of: id, asks, .roomNotFound)
        }
      }
      guard room.accessVersion > old.accessVersion else { return [] }
      state = .live(room, lastSeq: lastSeq)
      return revokeThoseWithoutAccess()
    }
  }

  private mutating func revokeThoseWithoutAccess() -> [Output] {
    guard case .live(let room, _) = state else { return [] }
    var outputs: [Output] = []
    for (id, caller) in subscribers.sorted(by: { $0.key < $1.key }) {
      let standing = RuleEngine.standing(of: caller, in: room)
      if !standing.permissions.contains(.read) {
        let asks = asking[id]?.asks ?? []
        remove(id)
        outputs.append(.revoke(id, .revoked))
        outputs += Self.refusals(
          of: id, asks, standing.isMember ? .forbidden : .roomNotFound)
      }
    }
    return outputs
  }

  // MARK: Entries

  private mutating func receive(_ entry: Entry) -> [Output] {
    switch state {
    case .gone: return []
    case .loading(var kept):
      if mayKeep(entry, besides: kept.count) { kept.append(entry) }
      state = .loading(entries: kept)
      return []
    case .live(_, let lastSeq):
      if entry.seq <= lastSeq { return seenBefore(entry, lastSeq) }
      if entry.seq == lastSeq + 1 { return advance(entry) }
      if mayKeep(entry, besides: ahead.count) { ahead[entry.seq] = entry }
      defer { gapEnd = max(gapEnd ?? 0, entry.seq) }
      return gapEnd == nil ? [.waitForGap(isRetry: false)] : []
    }
  }

  /// An entry at or below the head: it came by two ways, or the database's log is another one than was
  /// delivered here. The head tells.
  private mutating func seenBefore(_ entry: Entry, _ lastSeq: Int64) -> [Output] {
    guard entry.id != lastID, !isHeadDoubted else { return [] }
    isHeadDoubted = true
    return [.readHead(asOf: lastSeq)]
  }

  /// Counts bytes that are kept; where there are too many the log is read instead.
  private mutating func mayKeep(_ entry: Entry, besides count: Int) -> Bool {
    if count == 0 { keptBytes = 0 }
    guard count < Self.maximumKept, keptBytes < Self.maximumKeptBytes else { return false }
    keptBytes += entry.cost
    return true
  }

  /// Delivers the next entry and those that were waiting right behind it.
  private mutating func advance(_ first: Entry) -> [Output] {
    guard case .live(let room, _) = state else { return [] }
    var outputs: [Output] = []
    var next: Entry? = first
    var lastSeq = first.seq
    while let entry = next {
      lastSeq = entry.seq
      for index in replays.values.indices { replays.values[index].keep(entry) }
      outputs.append(.publish(entry))
      lastID = entry.id
      next = ahead.isEmpty ? nil : ahead.removeValue(forKey: lastSeq + 1)
    }
    state = .live(room, lastSeq: lastSeq)
    return outputs + endHeadChecks(givesUp: false)
  }

  private mutating func gapTimeout() -> [Output] {
    guard case .live(_, let lastSeq) = state, let end = gapEnd, end > lastSeq else {
      gapEnd = nil
      return []
    }
    return [.readGap(after: lastSeq, through: end)]
  }

  private mutating func headSeen(_ seq: Int64, asOf: Int64) -> [Output] {
    if seq < asOf { return rewind(to: seq) }
    guard case .live(_, let lastSeq) = state, seq > lastSeq else { return [] }
    if let end = gapEnd {
      // It is being filled already, and that goes on to here.
      gapEnd = max(end, seq)
      return []
    }
    gapEnd = seq
    // What was just committed is on its way here: it is given the time that a gap has.
    return [.waitForGap(isRetry: false)]
  }

  private mutating func headRead(_ seq: Int64?, asOf: Int64) -> [Output] {
    isHeadDoubted = false
    guard let lastSeq else { return [] }
    var rewound: [Output] = []
    if let seq, seq < asOf { rewound = rewind(to: seq) }
    for id in headChecks {
      guard case .asked? = asking[id]?.headCheck else { continue }
      asking[id]?.headCheck = seq.map { .behind($0) } ?? .done
    }
    var outputs = rewound + endHeadChecks(givesUp: false)
    if let seq, seq > lastSeq {
      // Where a gap is being filled already, that goes on to here.
      if gapEnd == nil { outputs.append(.readGap(after: lastSeq, through: seq)) }
      gapEnd = max(gapEnd ?? 0, seq)
    }
    return outputs
  }

  /// Goes back to where the log really ends. Whoever hears the room is told to reload; whoever is being
  /// made whole as well.
  private mutating func rewind(to seq: Int64) -> [Output] {
    guard case .live(let room, let lastSeq) = state, seq < lastSeq else { return [] }
    state = .live(room, lastSeq: seq)
    lastID = nil
    ahead = [:]
    gapEnd = nil
    let interrupted = Set(replays.keys)
    replays = [:]
    var outputs: [Output] = [.rewound(from: lastSeq, to: seq)]
    for id in subscribers.keys.sorted() where asking[id] == nil || interrupted.contains(id) {
      outputs.append(.reset(id, seq: seq))
      outputs += answerAsks(of: id)
    }
    return outputs
  }

  /// Answers those who waited for this loop to reach the head; `givesUp` where it cannot be reached now.
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
    guard case .live(_, let before) = state else { return [] }
    var outputs: [Output] = []
    for entry in entries ?? [] where entry.seq > before { outputs += receive(entry) }
    outputs += endHeadChecks(givesUp: entries == nil)
    guard let lastSeq, let end = gapEnd, end > lastSeq else {
      gapEnd = nil
      return outputs
    }
    if let entries, !entries.isEmpty {
      // One reading gives a part.
      outputs.append(.readGap(after: lastSeq, through: end))
    } else if entries == nil {
      outputs.append(.waitForGap(isRetry: true))
    } else {
      // The log ends here: there is no gap, and what spoke of one spoke of another log.
      gapEnd = nil
      outputs.append(.readHead(asOf: lastSeq))
    }
    return outputs
  }
}
