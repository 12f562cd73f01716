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

  /// What a subscriber asks for, which decides what it is told.
  enum Purpose: Equatable {
    /// Part of a connection's first frame, or the one room of `/chat`.
    case listed
    /// Asked for by `subscribe`; `clientID` is the frame's.
    case subscribe(clientID: String?)
    /// Because the room became readable.
    case became
    /// Asked for by `resume`: `last` is the highest seq that the client has.
    case resume(last: Int64, clientID: String?)
  }

  enum Input {
    case attach(SubscriberID, Caller, Purpose)
    /// Asked for by `unsubscribe`: answered by `left`, after what was asked before.
    case leave(SubscriberID, clientID: String?)
    /// The subscriber is gone; nobody is told.
    case detach(SubscriberID)
    /// The caller's claims changed.
    case renew(SubscriberID, Caller)
    /// The first reading of the room and its head; nil where it does not exist.
    case loaded((room: Room, lastSeq: Int64)?)
    case loadFailed
    /// The room as it is now, after a change; nil where it was deleted.
    case changed(Room?)
    case entry(Entry)
    /// Entries read from the log to fill a gap; nil where that failed.
    case gapRead([Entry]?)
    /// The gap has been waited for long enough.
    case gapTimeout
    /// The head as the database has it: entries beyond ours were lost on the way.
    case head(Int64)
    /// The first of the entries that a replay asked for, at least one; nil where that failed.
    case replayRead(SubscriberID, replay: Int, [Entry]?)
    /// The subscriber has taken what it was sent.
    case replayTaken(SubscriberID, replay: Int)
  }

  enum Output {
    /// Tell the subscriber that it hears everything after `seq`; it is in the topic from here on.
    case admit(SubscriberID, Purpose, seq: Int64)
    case refuse(SubscriberID, Purpose, ErrorCode)
    /// To everyone in the topic.
    case publish(Entry)
    /// Give `gapTimeout` in 20 ms, or in a second where the log could not be read.
    case waitForGap(isRetry: Bool)
    /// Read these entries, then give `gapRead`.
    case readGap(after: Int64, through: Int64)
    /// Read these entries or the first of them, when the subscriber has room, then give `replayRead`.
    case readReplay(SubscriberID, replay: Int, after: Int64, through: Int64)
    /// Entries for one subscriber, which is not in the topic.
    case replay(SubscriberID, [Entry])
    /// Tell it that it has everything up to `seq`. What came later follows.
    case resumed(SubscriberID, seq: Int64)
    /// Give `replayTaken` when the subscriber has room.
    case awaitRoom(SubscriberID, replay: Int)
    /// The replay is over: it is in the topic from here on.
    case join(SubscriberID)
    /// Tell it to reload up to `seq`; it is in the topic from here on.
    case reset(SubscriberID, seq: Int64)
    /// It left, as it asked to.
    case left(SubscriberID, seq: Int64, clientID: String?)
    /// It hears no more, and is told so.
    case revoke(SubscriberID, ErrorCode)
  }

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
      laterBytes += entry.data.utf8.count
      if laterBytes > RoomFeed.maximumLaterBytes { isLaterIncomplete = true }
      if !isLaterIncomplete { later.append(entry) }
    }
  }

  /// In the topic, unless it waits for the room or is being made whole.
  private struct Subscriber {
    var caller: Caller
    /// What it asked for and has not been answered, in order.
    var asks: [Ask] = []
  }

  private var state = State.loading(entries: [])
  private var subscribers: [SubscriberID: Subscriber] = [:]
  /// Those of the subscribers that are sent the log, a piece at a time.
  private var replays: [SubscriberID: Replay] = [:]
  /// Entries beyond a gap, by seq.
  private var ahead: [Int64: Entry] = [:]
  /// The seq up to which a gap is being filled; nil while there is none.
  private var gapEnd: Int64?
  private var replayCount = 0

  /// Entries that one room's resume replays at most; beyond it `reset` (CONTRACT section 6).
  static let maximumReplay: Int64 = 1000
  /// Entries kept beyond a gap, or while loading; the log has them all the same.
  private static let maximumKept = 4096
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
    replays[id] != nil || subscribers[id]?.asks.isEmpty == false
  }

  // MARK: The machine

  /// Takes one input; returns what to do, in order. `claim` is asked whether so many entries may be
  /// replayed to a subscriber: it keeps the count over all rooms of one `resume`.
  mutating func handle(_ input: Input, claim: (SubscriberID, Int64) -> Bool) -> [Output] {
    switch input {
    case .attach(let id, let caller, let purpose):
      return ask(.enter(purpose), of: id, caller, claim)
    case .leave(let id, let clientID): return leave(id, clientID, claim)
    case .detach(let id):
      remove(id)
      return []
    case .renew(let id, let caller):
      guard subscribers[id] != nil else { return [] }
      subscribers[id]?.caller = caller
      return revokeThoseWithoutAccess()
    case .loaded(let found): return loaded(found, claim)
    case .loadFailed: return loadFailed()
    case .changed(let room): return changed(room)
    case .entry(let entry): return receive(entry)
    case .gapRead(let entries): return gapRead(entries)
    case .gapTimeout: return gapTimeout()
    case .head(let seq): return headSeen(seq)
    case .replayRead(let id, let number, let entries):
      return replayRead(id, number, entries, claim)
    case .replayTaken(let id, let number): return goOn(id, number, claim)
    }
  }

  // MARK: Coming and going

  private mutating func ask(
    _ ask: Ask, of id: SubscriberID, _ caller: Caller, _ claim: (SubscriberID, Int64) -> Bool
  ) -> [Output] {
    subscribers[id, default: Subscriber(caller: caller)].asks.append(ask)
    return answerAsks(of: id, claim)
  }

  private mutating func remove(_ id: SubscriberID) {
    subscribers[id] = nil
    replays[id] = nil
  }

  private mutating func leave(
    _ id: SubscriberID, _ clientID: String?, _ claim: (SubscriberID, Int64) -> Bool
  ) -> [Output] {
    guard let subscriber = subscribers[id] else { return [] }
    guard replays[id] != nil else {
      return ask(.leave(clientID: clientID), of: id, subscriber.caller, claim)
    }
    // The replay ends now; so does what waited behind it, unanswered but by `left`.
    remove(id)
    let seq = lastSeq ?? 0
    return (subscriber.asks + [.leave(clientID: clientID)]).compactMap { ask in
      guard case .leave(let clientID) = ask else { return nil }
      return .left(id, seq: seq, clientID: clientID)
    }
  }

  /// Answers what a subscriber asked for, in order, until something takes time.
  private mutating func answerAsks(
    of id: SubscriberID, _ claim: (SubscriberID, Int64) -> Bool
  ) -> [Output] {
    var outputs: [Output] = []
    while let subscriber = subscribers[id], let next = subscriber.asks.first {
      if replays[id] != nil { return outputs }
      switch state {
      case .loading: return outputs
      case .gone:
        subscribers[id] = nil
        return outputs + Self.refusals(of: id, subscriber.asks, .roomNotFound)
      case .live(let room, let lastSeq):
        subscribers[id]?.asks.removeFirst()
        switch next {
        case .leave(let clientID):
          let rest = subscriber.asks.dropFirst()
          subscribers[id] =
            rest.isEmpty ? nil : Subscriber(caller: subscriber.caller, asks: Array(rest))
          outputs.append(.left(id, seq: lastSeq, clientID: clientID))
        case .enter(let purpose):
          outputs += admit(id, subscriber.caller, purpose, room, lastSeq, claim)
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
      // It hears nothing, as it wanted.
      case .leave(let clientID): .left(id, seq: 0, clientID: clientID)
      }
    }
  }

  private mutating func admit(
    _ id: SubscriberID, _ caller: Caller, _ purpose: Purpose, _ room: Room, _ lastSeq: Int64,
    _ claim: (SubscriberID, Int64) -> Bool
  ) -> [Output] {
    let standing = RuleEngine.standing(of: caller, in: room)
    guard standing.permissions.contains(.read) else {
      let asks = [.enter(purpose)] + (subscribers.removeValue(forKey: id)?.asks ?? [])
      return Self.refusals(of: id, asks, standing.isMember ? .forbidden : .roomNotFound)
    }
    guard case .resume(let last, _) = purpose else { return [.admit(id, purpose, seq: lastSeq)] }
    let missing = lastSeq - last
    if missing == 0 { return [.resumed(id, seq: lastSeq), .join(id)] }
    guard last >= 0, missing > 0, missing <= Self.maximumReplay, claim(id, missing) else {
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
    _ id: SubscriberID, _ number: Int, _ entries: [Entry]?,
    _ claim: (SubscriberID, Int64) -> Bool
  ) -> [Output] {
    guard var replay = replay(id, number) else { return [] }
    guard let entries, let first = entries.first, let last = entries.last,
      first.seq == replay.sent + 1, last.seq <= replay.through,
      last.seq - first.seq == Int64(entries.count - 1)
    else {
      // What cannot be read cannot make it whole: a reload does.
      replays[id] = nil
      return [.reset(id, seq: lastSeq ?? replay.through)] + answerAsks(of: id, claim)
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
    _ id: SubscriberID, _ number: Int, _ claim: (SubscriberID, Int64) -> Bool
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
    return later + [.join(id)] + answerAsks(of: id, claim)
  }

  // MARK: The room

  private mutating func loaded(
    _ found: (room: Room, lastSeq: Int64)?, _ claim: (SubscriberID, Int64) -> Bool
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
    for id in subscribers.keys.sorted() { outputs += answerAsks(of: id, claim) }
    return outputs
  }

  private mutating func loadFailed() -> [Output] {
    guard case .loading = state else { return [] }
    return refuseAll(.unavailable)
  }

  private mutating func refuseAll(_ code: ErrorCode) -> [Output] {
    let refused = subscribers.sorted { $0.key < $1.key }
    subscribers = [:]
    replays = [:]
    return refused.flatMap { id, subscriber in Self.refusals(of: id, subscriber.asks, code) }
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
        let all = subscribers.sorted { $0.key < $1.key }
        subscribers = [:]
        replays = [:]
        ahead = [:]
        return all.flatMap { id, subscriber in
          [.revoke(id, .roomDeleted)] + Self.refusals(of: id, subscriber.asks, .roomNotFound)
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
    for (id, subscriber) in subscribers.sorted(by: { $0.key < $1.key }) {
      let standing = RuleEngine.standing(of: subscriber.caller, in: room)
      if !standing.permissions.contains(.read) {
        remove(id)
        outputs.append(.revoke(id, .revoked))
        outputs += Self.refusals(
          of: id, subscriber.asks, standing.isMember ? .forbidden : .roomNotFound)
      }
    }
    return outputs
  }

  // MARK: Entries

  private mutating func receive(_ entry: Entry) -> [Output] {
    switch state {
    case .gone: return []
    case .loading(var kept):
      if kept.count < Self.maximumKept { kept.append(entry) }
      state = .loading(entries: kept)
      return []
    case .live(_, let lastSeq):
      if entry.seq <= lastSeq { return [] }
      if entry.seq == lastSeq + 1 { return advance(entry) }
      if ahead.count < Self.maximumKept { ahead[entry.seq] = entry }
      defer { gapEnd = max(gapEnd ?? 0, entry.seq) }
      return gapEnd == nil ? [.waitForGap(isRetry: false)] : []
    }
  }

  /// Delivers the next entry and those that were waiting right behind it.
  private mutating func advance(_ first: Entry) -> [Output] {
    guard case .live(let room, _) = state else { return [] }
    var outputs: [Output] = []
    var next: Entry? = first
    var lastSeq = first.seq
    while let entry = next {
      lastSeq = entry.seq
      for id in replays.keys { replays[id]?.keep(entry) }
      outputs.append(.publish(entry))
      next = ahead.isEmpty ? nil : ahead.removeValue(forKey: lastSeq + 1)
    }
    state = .live(room, lastSeq: lastSeq)
    return outputs
  }

  private mutating func gapTimeout() -> [Output] {
    guard case .live(_, let lastSeq) = state, let end = gapEnd, end > lastSeq else {
      gapEnd = nil
      return []
    }
    return [.readGap(after: lastSeq, through: end)]
  }

  private mutating func headSeen(_ seq: Int64) -> [Output] {
    guard case .live(_, let lastSeq) = state, seq > lastSeq, gapEnd == nil else { return [] }
    gapEnd = seq
    return [.readGap(after: lastSeq, through: seq)]
  }

  private mutating func gapRead(_ entries: [Entry]?) -> [Output] {
    guard case .live(_, let before) = state else { return [] }
    var outputs: [Output] = []
    for entry in entries ?? [] where entry.seq > before { outputs += receive(entry) }
    guard let lastSeq, let end = gapEnd, end > lastSeq else {
      gapEnd = nil
      return outputs
    }
    // One reading gives a part; where it gave nothing it is tried again in a while.
    outputs.append(
      lastSeq > before ? .readGap(after: lastSeq, through: end) : .waitForGap(isRetry: true))
    return outputs
  }
}
