internal import Basics
internal import Events

/// A channel that the nodes of a database share in Redis: one for each shard of rooms, and one that all nodes follow.
struct Channel: Hashable, Comparable, Sendable {
  /// The shard's index; 256 is the channel of all.
  let index: UInt16

  static let all = Channel()

  private init() { index = 256 }
  init(_ shard: Shard) { index = UInt16(shard.index) }

  /// Nil if the index is not valid here, because a node of another release has more channels.
  init?(index: UInt16) {
    guard index <= 256 else { return nil }
    self.index = index
  }

  /// Nil for the channel of all.
  var shard: Shard? { UInt8(exactly: index).map(Shard.init(index:)) }

  /// Its name in Redis. It begins with the epoch of the log, so that the channels change when a backup was restored.
  func name(epoch: String) -> String {
    "\(epoch):\(shard.map { "\($0.index)" } ?? "all")"
  }

  /// The channel of an event.
  init(of event: Event) { self = event.room.map { Channel(Shard(of: $0)) } ?? .all }

  static func < (left: Channel, right: Channel) -> Bool { left.index < right.index }
}
