package import Basics

/// Carries events between nodes that share a database. A port: within a process (`InProcessFanout`), or over Redis
/// (`RedisFanout`).
///
/// A fan-out may delay, reorder and lose events, because heads and versions are also compared with the database. If
/// it may have lost entries of followed rooms it announces that with `Event.missed`, so that the comparison is made
/// at once. It never delivers an event twice, never one that no node of this database published, and never a node's
/// own.
///
/// May be called from any thread.
package protocol Fanout: Sendable {
  /// Sets the receiver of other nodes' events and of `Event.missed`. Called once, before everything else.
  func start(_ receive: @escaping @Sendable ([Event]) -> Void)

  /// Sends this node's events to the others, in order. Those that are not `isShared` are left out. Does not wait:
  /// events that cannot be sent are lost, signals first.
  func publish(_ events: [Event])

  /// Asks for the entries and signals of these rooms from now on. Those of other rooms in the same shards may arrive
  /// too. Calls are counted, and each is undone by one `unfollow`. Does not wait; see `following`.
  func follow(_ rooms: [RoomID])

  /// Undoes one `follow` of these rooms.
  func unfollow(_ rooms: [RoomID])

  /// Returns when the subscription to these followed rooms is confirmed: for a head that is read afterwards, no later
  /// entry is missed. Usually returns at once. Also returns if confirmation will take long; then `Event.missed`
  /// follows once it is confirmed.
  func following(_ rooms: [RoomID]) async

  /// The database's log has another name from now on. Events of the old log are invalid.
  func epochChanged(to epoch: String)

  /// Stops the fan-out. Must be called once. Published events are still sent if that takes no time; afterwards
  /// nothing is sent or received.
  func stop() async
}

/// A group of rooms that are followed together: those whose ids have the same remainder modulo 256.
///
/// The number of shards never changes, because nodes of different releases have to agree on it.
package struct Shard: Sendable, Hashable, Comparable {
  package let index: UInt8

  package init(index: UInt8) { self.index = index }
  package init(of room: RoomID) { index = UInt8(truncatingIfNeeded: room.value) }

  package static func < (left: Shard, right: Shard) -> Bool { left.index < right.index }

  /// The shards of these rooms, each once.
  package static func of(_ rooms: [RoomID]) -> Set<Shard> { Set(rooms.map(Shard.init(of:))) }
}
