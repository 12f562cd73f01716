internal import Basics
internal import Chat
internal import Events
internal import Live

/// A room that one event loop serves: its feed, the topics of the two dialects, and what waits for it. Used on the
/// loop only.
final class ServedRoom {
  let id: RoomID
  var feed = RoomFeed()
  /// The id of the team whose channel this is. Known once the room is loaded, and still when it is deleted.
  private var team: TeamID?
  private let ingest: any Ingest
  let relay: Topic
  /// Nil until a socket of that dialect has subscribed.
  private(set) var nano: Topic?
  /// The version of the room that those who may read it were told of last; nil if none was. The feed may know a newer
  /// one, which was read for another purpose.
  var announced: Room?
  /// The version that an event announced while the room was being read.
  var wantedVersion: Int64 = 0
  /// Whether entries may have been lost while the room was being read. Its head must be compared afterwards.
  var mayHaveMissed = false
  /// Since when the room has had no listener; nil while it has one.
  var unusedSince: Int64?
  /// Acknowledgements that wait for the broadcast of their entry, by seq, with the sockets that receive them.
  var heldAcks: [Int64: (entry: Entry, sockets: [UInt64])] = [:]
  /// When the room's head moved last.
  var movedAt = HeadMark.beginning
  /// Called once it is known whether the room exists.
  var waiters: [(Result<Room?, AppError>) -> Void] = []

  /// The topics wait a moment before a flush if `ingest` holds messages for the room.
  init(_ id: RoomID, _ ingest: any Ingest) {
    self.id = id
    self.ingest = ingest
    relay = Self.makeTopic(id, ingest)
  }

  private static func makeTopic(_ id: RoomID, _ ingest: any Ingest) -> Topic {
    Topic { ingest.isExpecting(id) }
  }

  /// As frames name the room.
  var channelID: String { team?.description ?? id.description }

  /// Notes that the room was read. What it is never changes.
  func loaded(_ room: Room) {
    if room.kind == .channel { team = room.properties.team }
  }

  /// The topic of a dialect, created if needed.
  func makeTopic(_ kind: DialectKind) -> Topic {
    if kind == .relay { return relay }
    if let nano { return nano }
    let new = Self.makeTopic(id, ingest)
    nano = new
    return new
  }

  /// The topic of a dialect; nil if no socket of that dialect has subscribed.
  func topic(_ kind: DialectKind) -> Topic? { kind == .relay ? relay : nano }

  func takeWaiters() -> [(Result<Room?, AppError>) -> Void] {
    defer { waiters = [] }
    return waiters
  }
}
