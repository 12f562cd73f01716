internal import Basics
internal import Events

/// Which shards this node follows, and of which Redis has confirmed it. A value: counts and confirmations in, what
/// to ask of Redis out.
struct Interest {
  private struct State {
    /// How many rooms of it are followed.
    var count = 0
    /// What was asked of Redis last.
    var isAsked = false
    /// Asked and not confirmed yet.
    var unconfirmed = 0
    /// Somebody went on without knowing that it holds: what came meanwhile may have been missed.
    var mayHaveMissed = false

    var isWanted: Bool { count > 0 }
    var holds: Bool { isWanted && isAsked && unconfirmed == 0 }
  }

  private var states = [State](repeating: State(), count: 256)
  /// Shards for which something may have to be asked.
  private var changed: Set<Shard> = []
  private(set) var isConnected = false

  private subscript(shard: Shard) -> State {
    get { states[Int(shard.index)] }
    set { states[Int(shard.index)] = newValue }
  }

  /// Counts these rooms. True where Redis has to be asked for something.
  mutating func follow(_ rooms: [RoomID]) -> Bool {
    for room in rooms {
      let shard = Shard(of: room)
      self[shard].count += 1
      if self[shard].count == 1 { changed.insert(shard) }
    }
    return !changed.isEmpty
  }

  /// Counts these rooms no more. True where Redis has to be asked for something.
  mutating func unfollow(_ rooms: [RoomID]) -> Bool {
    for room in rooms {
      let shard = Shard(of: room)
      precondition(self[shard].count > 0, "a room was unfollowed that was not followed")
      self[shard].count -= 1
      if self[shard].count == 0 { changed.insert(shard) }
    }
    return !changed.isEmpty
  }

  /// Those of the shards of which it is not confirmed that they are followed, and for which waiting is worth while:
  /// not without a connection, and not where something of them may have been missed already. In those something may be
  /// missed from here on.
  mutating func unconfirmed(of shards: Set<Shard>) -> Set<Shard> {
    if !isConnected { noteUnconfirmed(shards) }
    return shards.filter { !self[$0].holds && !self[$0].mayHaveMissed }
  }

  func holds(_ shards: Set<Shard>) -> Bool { shards.allSatisfy { self[$0].holds } }

  /// Somebody goes on without knowing that these are followed.
  mutating func noteUnconfirmed(_ shards: Set<Shard>) {
    for shard in shards where !self[shard].holds { self[shard].mayHaveMissed = true }
  }

  // MARK: Redis

  /// Subscribers can be told from here on; they know of nothing yet.
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

  /// What is to be asked of Redis now: shards to subscribe to, and to unsubscribe from.
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

  /// Redis has done what was asked for a shard. True where it is followed from here on, and something may have been
  /// missed of it before.
  mutating func confirmed(_ shard: Shard) -> Bool {
    guard self[shard].unconfirmed > 0 else { return false }
    self[shard].unconfirmed -= 1
    guard self[shard].holds else { return false }
    defer { self[shard].mayHaveMissed = false }
    return self[shard].mayHaveMissed
  }
}
