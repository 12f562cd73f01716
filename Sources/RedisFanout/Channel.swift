internal import Basics
internal import Events

/// A Redis channel that the nodes of a database share: one for each shard of rooms, and one that all nodes follow (the
/// channel of all).
struct Channel: Hashable, Comparable, Sendable {
  /// The index of the shard, 0 to 255; 256 is the channel of all.
  let index: UInt16

  static let all = Channel()

  private init() { index = 256 }
  init(_ shard: Shard) { index = UInt16(shard.index) }

  /// Nil if this release has no channel of that index. A newer release may have more channels.
  init?(index: UInt16) {
    guard index <= 256 else { return nil }
    self.index = index
  }

  /// The channel's shard; nil for the channel of all.
  var shard: Shard? { UInt8(exactly: index).map(Shard.init(index:)) }

  /// Returns the channel's name in Redis. It begins with the epoch of the log, so that all channels change when a
  /// backup is restored.
  func name(epoch: String) -> String {
    "\(epoch):\(shard.map { "\($0.index)" } ?? "all")"
  }

  /// The channel on which an event is published: that of its room's shard, or the channel of all if it is for all
  /// nodes.
  init(of event: Event) { self = event.room.map { Channel(Shard(of: $0)) } ?? .all }

  static func < (left: Channel, right: Channel) -> Bool { left.index < right.index }
}
