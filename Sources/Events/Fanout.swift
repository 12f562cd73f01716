package import Basics

/// A port that carries events between nodes that share a database: within a process (`InProcessFanout`), or over Redis
/// (`RedisFanout`).
///
/// A fan-out may delay, reorder and lose events, because heads and versions are also compared with the database. If it
/// may have lost entries of followed rooms, it announces that with `Event.missed`, so that the comparison is made at
/// once. It never delivers an event twice, nor an event that no node of this database published, nor a node's own
/// events to that node.
///
/// May be called from any thread.
package protocol Fanout: Sendable {
  /// Sets the receiver of other nodes' events and of `Event.missed`. Called once, before everything else.
  func start(_ receive: @escaping @Sendable ([Event]) -> Void)

  /// Sends this node's events to the other nodes, in order. Events that are not `isShared` are left out. Does not wait:
  /// events that cannot be sent are lost, signals before others.
  func publish(_ events: [Event])

  /// Subscribes to the entries and signals of these rooms. Those of other rooms in the same shards may arrive, too.
  /// Calls are counted, and each is undone by one `unfollow`. Does not wait for the subscription; `following` does.
  func follow(_ rooms: [RoomID])

  /// Undoes one `follow` of these rooms.
  func unfollow(_ rooms: [RoomID])

  /// Returns when the subscription to these rooms, which the caller follows, is confirmed. If the caller reads a room's
  /// head afterwards, it misses no entry after that head. Usually returns at once. If the confirmation takes long, this
  /// returns before it, and `Event.missed` is announced when the subscription is confirmed.
  func following(_ rooms: [RoomID]) async

  /// Tells the fan-out that the database has this epoch from now on. Events of other epochs are invalid.
  func epochChanged(to epoch: String)

  /// Stops the fan-out. Must be called once. Events that were published before are still sent if that takes only a
  /// moment. When this returns, nothing is sent or received any more.
  func stop() async
}

/// A group of rooms that share a subscription: those whose ids have the same remainder modulo 256.
///
/// The number of shards never changes, because nodes of different releases have to agree on it.
package struct Shard: Sendable, Hashable, Comparable {
  package let index: UInt8

  package init(index: UInt8) { self.index = index }
  package init(of room: RoomID) { index = UInt8(truncatingIfNeeded: room.value) }

  package static func < (left: Shard, right: Shard) -> Bool { left.index < right.index }

  /// Returns the shards of these rooms, each once.
  package static func of(_ rooms: [RoomID]) -> Set<Shard> { Set(rooms.map(Shard.init(of:))) }
}
