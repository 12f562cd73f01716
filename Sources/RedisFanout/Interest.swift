internal import Basics
internal import Events

/// The subscription state of this node: which shards it follows, and for which of them Redis has confirmed the
/// subscription. A value: followed rooms and confirmations go in, requests to Redis come out.
struct Interest {
  private struct State {
    /// The number of `follow` calls for rooms of the shard that are not undone yet.
    var count = 0
    /// Whether the last request to Redis for this shard was to subscribe, on the current connection.
    var isAsked = false
    /// The number of requests that Redis has not confirmed yet.
    var unconfirmed = 0
    /// Whether events may have been missed: the connection was lost while the shard was followed, or a caller of
    /// `following` continued without a confirmation.
    var mayHaveMissed = false

    var isWanted: Bool { count > 0 }
    var holds: Bool { isWanted && isAsked && unconfirmed == 0 }
  }

  private var states = [State](repeating: State(), count: 256)
  /// The shards whose subscription may have to change.
  private var changed: Set<Shard> = []
  private(set) var isConnected = false

  private subscript(shard: Shard) -> State {
    get { states[Int(shard.index)] }
    set { states[Int(shard.index)] = newValue }
  }

  /// Starts to follow these rooms. Calls are counted. Returns true if a request must be sent to Redis.
  mutating func follow(_ rooms: [RoomID]) -> Bool {
    for room in rooms {
      let shard = Shard(of: room)
      self[shard].count += 1
      if self[shard].count == 1 { changed.insert(shard) }
    }
    return !changed.isEmpty
  }

  /// Undoes one `follow` of these rooms. Returns true if a request must be sent to Redis.
  mutating func unfollow(_ rooms: [RoomID]) -> Bool {
    for room in rooms {
      let shard = Shard(of: room)
      precondition(self[shard].count > 0, "a room was unfollowed that was not followed")
      self[shard].count -= 1
      if self[shard].count == 0 { changed.insert(shard) }
    }
    return !changed.isEmpty
  }

  /// Returns those of the shards whose confirmation is worth waiting for. A shard is left out if it is confirmed, if
  /// there is no connection, or if events in it may have been missed already. An unconfirmed shard that is left out is
  /// marked as one in which events may be missed, which is reported once Redis confirms it.
  mutating func unconfirmed(of shards: Set<Shard>) -> Set<Shard> {
    if !isConnected { noteUnconfirmed(shards) }
    return shards.filter { !self[$0].holds && !self[$0].mayHaveMissed }
  }

  func holds(_ shards: Set<Shard>) -> Bool { shards.allSatisfy { self[$0].holds } }

  /// Notes that a caller of `following` continues without the confirmation for these shards, so that events in them
  /// may be missed.
  mutating func noteUnconfirmed(_ shards: Set<Shard>) {
    for shard in shards where !self[shard].holds { self[shard].mayHaveMissed = true }
  }

  // MARK: Redis

  /// Notes that a new connection for subscriptions is open. It has no subscriptions yet.
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

  /// Returns the requests to send to Redis now: the shards to subscribe to, and those to unsubscribe from. The caller
  /// must send them. Returns none without a connection.
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

  /// Handles Redis' confirmation of a request for a shard. Returns true if the subscription to the shard holds from
  /// here on, and events in it may have been missed before.
  mutating func confirmed(_ shard: Shard) -> Bool {
    guard self[shard].unconfirmed > 0 else { return false }
    self[shard].unconfirmed -= 1
    guard self[shard].holds else { return false }
    defer { self[shard].mayHaveMissed = false }
    return self[shard].mayHaveMissed
  }
}
