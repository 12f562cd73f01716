package import Basics

/// Carries events between nodes that share a database. Port: within a process (`InProcessFanout`), over
/// Redis (`RedisFanout`).
///
/// A fanout may delay events, bring them in another order, and lose them: heads and versions are compared with the
/// database all the same. Where entries of followed rooms are lost it says so (`Event.missed`), so that the
/// comparison is made at once. It brings nothing twice, nothing that no node of this database published, and no node
/// its own.
///
/// Any thread may call.
package protocol Fanout: Sendable {
  /// Names who gets the events of other nodes, and `Event.missed`. Called once, before all else.
  func start(_ receive: @escaping @Sendable ([Event]) -> Void)

  /// Sends events of this node to the others, in their order; those that are not `isShared` are left out. Does
  /// not wait: where they cannot be sent they are lost. Signals are lost first.
  func publish(_ events: [Event])

  /// The entries and signals of these rooms are wanted from now on; those of others in their shards may come as
  /// well. Counted: each call is undone by one of `unfollow`. Does not wait; see `following`.
  func follow(_ rooms: [RoomID])

  /// Undoes `follow` of these rooms.
  func unfollow(_ rooms: [RoomID])

  /// Returns when it surely holds that these rooms, which are followed, are: a head that is read after this leaves
  /// no hole behind it. At once where that is known already, and that is the usual case. Also returns where it
  /// cannot be known soon; then `Event.missed` comes when it holds.
  func following(_ rooms: [RoomID]) async

  /// The log of the database has another name from now on: nothing of the old one counts.
  func epochChanged(to epoch: String)

  /// Ends it, and must be called once: what was published goes out, where that takes no time, then nothing is sent
  /// or received any more.
  func stop() async
}

/// Rooms that are followed together: those whose ids have the same remainder by 256.
///
/// Their number never changes, since nodes of several releases have to agree.
package struct Shard: Sendable, Hashable, Comparable {
  package let index: UInt8

  package init(index: UInt8) { self.index = index }
  package init(of room: RoomID) { index = UInt8(truncatingIfNeeded: room.value) }

  package static func < (left: Shard, right: Shard) -> Bool { left.index < right.index }

  /// The shards of rooms, each once.
  package static func of(_ rooms: [RoomID]) -> Set<Shard> { Set(rooms.map(Shard.init(of:))) }
}
