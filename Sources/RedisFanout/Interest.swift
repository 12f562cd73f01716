internal import Basics
internal import Events

/// Tracks which shards this node follows, and for which of them Redis has confirmed the subscription. A value: counts
/// and confirmations go in, requests to Redis come out.
struct Interest {
  private struct State {
    /// The number of followed rooms in the shard.
    var count = 0
    /// What was last requested of Redis.
    var isAsked = false
    /// The number of requests that are not confirmed yet.
    var unconfirmed = 0
    /// Whether somebody continued without the confirmation: events since then may have been missed.
    var mayHaveMissed = false

    var isWanted: Bool { count > 0 }
    var holds: Bool { isWanted && isAsked && unconfirmed == 0 }
  }

  private var states = [State](repeating: State(), count: 256)
  /// Shards whose subscription may have to change.
  private var changed: Set<Shard> = []
  private(set) var isConnected = false

  private subscript(shard: Shard) -> State {
    get { states[Int(shard.index)] }
    set { states[Int(shard.index)] = newValue }
  }

  /// Counts these rooms. Returns true if something must be requested of Redis.
  mutating func follow(_ rooms: [RoomID]) -> Bool {
    for room in rooms {
      let shard = Shard(of: room)
      self[shard].count += 1
      if self[shard].count == 1 { changed.insert(shard) }
    }
    return !changed.isEmpty
  }

  /// Stops counting these rooms. Returns true if something must be requested of Redis.
  mutating func unfollow(_ rooms: [RoomID]) -> Bool {
    for room in rooms {
      let shard = Shard(of: room)
      precondition(self[shard].count > 0, "a room was unfollowed that was not followed")
      self[shard].count -= 1
      if self[shard].count == 0 { changed.insert(shard) }
    }
    return !changed.isEmpty
  }

  /// Those of the shards whose subscription is not confirmed and worth waiting for: there must be a connection, and
  /// nothing may have been missed already. In the remaining unconfirmed shards events may be missed from here on.
  mutating func unconfirmed(of shards: Set<Shard>) -> Set<Shard> {
    if !isConnected { noteUnconfirmed(shards) }
    return shards.filter { !self[$0].holds && !self[$0].mayHaveMissed }
  }

  func holds(_ shards: Set<Shard>) -> Bool { shards.allSatisfy { self[$0].holds } }

  /// Somebody continues without the confirmation for these shards.
  mutating func noteUnconfirmed(_ shards: Set<Shard>) {
    for shard in shards where !self[shard].holds { self[shard].mayHaveMissed = true }
  }

  // MARK: Redis

  /// The connection for subscriptions is open. It has no subscriptions yet.
  mutating func connected() {
    isConnected = true
    for index in states.indices {
      states[index].isAsked = false
      states[index].unconfirmed = 0
      if states[index].isWanted { changed.insert(Shard(index: UInt8(index))) }
    }
  }

  mutating func disconnected() {
    isConnected = false
    for index in states.indices {
      if states[index].isWanted { states[index].mayHaveMissed = true }
      states[index].isAsked = false
      states[index].unconfirmed = 0
    }
  }

  /// The requests to make of Redis now: shards to subscribe to, and to unsubscribe from.
  mutating func takeChanges() -> (subscribe: [Shard], unsubscribe: [Shard]) {
    guard isConnected else { return ([], []) }
    var (subscribe, unsubscribe): ([Shard], [Shard]) = ([], [])
    for shard in changed.sorted() where self[shard].isAsked != self[shard].isWanted {
      self[shard].isAsked.toggle()
      self[shard].unconfirmed += 1
      if self[shard].isAsked { subscribe.append(shard) } else { unsubscribe.append(shard) }
    }
    changed = []
    return (subscribe, unsubscribe)
  }

  /// Redis has confirmed a request for a shard. Returns true if the shard is followed from here on, and something may
  /// have been missed before.
  mutating func confirmed(_ shard: Shard) -> Bool {
    guard self[shard].unconfirmed > 0 else { return false }
    self[shard].unconfirmed -= 1
    guard self[shard].holds else { return false }
    defer { self[shard].mayHaveMissed = false }
    return self[shard].mayHaveMissed
  }
}
