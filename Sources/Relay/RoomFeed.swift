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

  /// Why a subscriber asks, which decides what it is told.
  enum Purpose: Equatable {
    /// Part of a connection's first frame, or the one room of `/chat`.
    case listed
    /// Asked for by `subscribe`.
    case subscribe
    /// Because the room became readable.
    case became
    /// Asked for by `resume`: `last` is the highest seq that the client has.
    case resume(last: Int64)
  }

  enum Input {
    case attach(SubscriberID, Caller, Purpose)
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
    /// Entries read for one that resumes; nil where that failed.
    case replayRead(SubscriberID, [Entry]?)
  }

  enum Output {
    /// Read the room and its head, then give `loaded` or `loadFailed`.
    case load
    /// Tell the subscriber that it hears everything after `seq`; it is in the topic from here on.
    case admit(SubscriberID, Purpose, seq: Int64)
    case refuse(SubscriberID, Purpose, ErrorCode)
    /// To everyone in the topic.
    case publish(Entry)
    /// Give `gapTimeout` in 20 ms.
    case waitForGap
    /// Read these entries, then give `gapRead`.
    case readGap(after: Int64, through: Int64)
    /// Read these entries, then give `replayRead`.
    case readReplay(SubscriberID, after: Int64, through: Int64)
    /// Entries for one subscriber, then `resumed` with `seq`, then `later`, then it is in the topic.
    case replay(SubscriberID, [Entry], seq: Int64, later: [Entry])
    /// Tell it to reload up to `seq`; it is in the topic from here on.
    case reset(SubscriberID, seq: Int64)
    /// It hears no more, and is told so.
    case revoke(SubscriberID, ErrorCode)
  }

  private enum State {
    /// Waits for `loaded`; entries that arrive meanwhile are kept.
    case loading(entries: [Entry])
    case live(Room, lastSeq: Int64)
    case gone
  }

  private enum Membership {
    /// Waits for the room.
    case waiting(Purpose)
    /// In the topic.
    case live
    /// Not in the topic yet: gets the log up to `through`, then what came `later`.
    case replaying(through: Int64, later: [Entry])
  }

  private struct Subscriber {
    var caller: Caller
    var membership: Membership
  }

  private var state = State.loading(entries: [])
  private var subscribers: [SubscriberID: Subscriber] = [:]
  /// Entries beyond a gap, by seq.
  private var ahead: [Int64: Entry] = [:]
  private var isFillingGap = false

  /// Entries that one room's resume replays at most; beyond it `reset` (CONTRACT section 6).
  static let maximumReplay: Int64 = 1000
  /// Entries kept beyond a gap, or while loading; the log has them all the same.
  private static let maximumKept = 4096

  // MARK: What others may see

  /// The room, once it is loaded and while it exists.
  var room: Room? { if case .live(let room, _) = state { room } else { nil } }
  /// The seq up to which this loop has delivered.
  var lastSeq: Int64? { if case .live(_, let lastSeq) = state { lastSeq } else { nil } }
  var isLoading: Bool { if case .loading = state { true } else { false } }
  var isGone: Bool { if case .gone = state { true } else { false } }
  var isUnused: Bool { subscribers.isEmpty }

  func isSubscribed(_ id: SubscriberID) -> Bool { subscribers[id] != nil }

  // MARK: The machine

  /// Takes one input; returns what to do, in order. `claim` is asked whether so many entries may be
  /// replayed to a subscriber: it keeps the count over all rooms of one `resume`.
  mutating func handle(_ input: Input, claim: (SubscriberID, Int64) -> Bool) -> [Output] {
    switch input {
    case .attach(let id, let caller, let purpose): return attach(id, caller, purpose, claim)
    case .detach(let id):
      subscribers[id] = nil
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
    case .replayRead(let id, let entries): return replayRead(id, entries)
    }
  }

  // MARK: Coming and going

  private mutating func attach(
    _ id: SubscriberID, _ caller: Caller, _ purpose: Purpose,
    _ claim: (SubscriberID, Int64) -> Bool
  ) -> [Output] {
    subscribers[id] = Subscriber(caller: caller, membership: .waiting(purpose))
    switch state {
    case .loading: return []
    case .gone:
      subscribers[id] = nil
      return [.refuse(id, purpose, .roomNotFound)]
    case .live(let room, let lastSeq): return admit(id, room, lastSeq, claim)
    }
  }

  private mutating func admit(
    _ id: SubscriberID, _ room: Room, _ lastSeq: Int64, _ claim: (SubscriberID, Int64) -> Bool
  ) -> [Output] {
    guard let subscriber = subscribers[id], case .waiting(let purpose) = subscriber.membership
    else {
      return []
    }
    let standing = RuleEngine.standing(of: subscriber.caller, in: room)
    guard standing.permissions.contains(.read) else {
      subscribers[id] = nil
      return [.refuse(id, purpose, standing.isMember ? .forbidden : .roomNotFound)]
    }
    guard case .resume(let last) = purpose else {
      subscribers[id]?.membership = .live
      return [.admit(id, purpose, seq: lastSeq)]
    }
    let missing = lastSeq - last
    if missing == 0 {
      subscribers[id]?.membership = .live
      return [.replay(id, [], seq: lastSeq, later: [])]
    }
    guard last >= 0, missing > 0, missing <= Self.maximumReplay, claim(id, missing) else {
      subscribers[id]?.membership = .live
      return [.reset(id, seq: lastSeq)]
    }
    subscribers[id]?.membership = .replaying(through: lastSeq, later: [])
    return [.readReplay(id, after: last, through: lastSeq)]
  }

  private mutating func replayRead(_ id: SubscriberID, _ entries: [Entry]?) -> [Output] {
    guard let subscriber = subscribers[id],
      case .replaying(let through, let later) = subscriber.membership
    else { return [] }
    subscribers[id]?.membership = .live
    // Short of what was there means that the log could not be read: a reload makes it whole.
    guard let entries, entries.last?.seq == through else {
      return [.reset(id, seq: lastSeq ?? through)]
    }
    return [.replay(id, entries, seq: through, later: later)]
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
    guard case .live(_, let head) = state else { return outputs }
    for id in subscribers.keys.sorted() { outputs += admit(id, room, head, claim) }
    return outputs
  }

  private mutating func loadFailed() -> [Output] {
    guard case .loading = state else { return [] }
    return refuseAll(.unavailable)
  }

  private mutating func refuseAll(_ code: ErrorCode) -> [Output] {
    let refused = subscribers.sorted { $0.key < $1.key }
    subscribers = [:]
    return refused.compactMap { id, subscriber in
      guard case .waiting(let purpose) = subscriber.membership else { return nil }
      return .refuse(id, purpose, code)
    }
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
        ahead = [:]
        return all.map { .revoke($0.key, .roomDeleted) }
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
        subscribers[id] = nil
        outputs.append(.revoke(id, .revoked))
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
      if isFillingGap { return [] }
      isFillingGap = true
      return [.waitForGap]
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
      for (id, subscriber) in subscribers {
        guard case .replaying(let through, var later) = subscriber.membership else { continue }
        later.append(entry)
        subscribers[id]?.membership = .replaying(through: through, later: later)
      }
      outputs.append(.publish(entry))
      next = ahead.isEmpty ? nil : ahead.removeValue(forKey: lastSeq + 1)
    }
    state = .live(room, lastSeq: lastSeq)
    return outputs
  }

  private mutating func gapTimeout() -> [Output] {
    guard case .live(_, let lastSeq) = state, let highest = ahead.keys.max() else {
      isFillingGap = false
      return []
    }
    return [.readGap(after: lastSeq, through: highest)]
  }

  private mutating func headSeen(_ seq: Int64) -> [Output] {
    guard case .live(_, let lastSeq) = state, seq > lastSeq, !isFillingGap else { return [] }
    isFillingGap = true
    return [.readGap(after: lastSeq, through: seq)]
  }

  private mutating func gapRead(_ entries: [Entry]?) -> [Output] {
    isFillingGap = false
    guard case .live(_, let lastSeq) = state else { return [] }
    var outputs: [Output] = []
    for entry in entries ?? [] where entry.seq > lastSeq { outputs += receive(entry) }
    ahead = ahead.filter { $0.key > (self.lastSeq ?? 0) }
    // What could not be read is tried again, in a while.
    if !ahead.isEmpty, !isFillingGap {
      isFillingGap = true
      outputs.append(.waitForGap)
    }
    return outputs
  }
}
