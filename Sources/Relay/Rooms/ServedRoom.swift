internal import Basics
internal import Chat
internal import Events
internal import Live

/// A room that one event loop serves: its feed, the topics of the two dialects, and what waits for it. On
/// the loop only.
final class ServedRoom {
  let id: RoomID
  var feed = RoomFeed()
  private let ingest: any Ingest
  let relay: Topic
  /// Nil as long as no socket of that dialect has heard the room.
  private(set) var nano: Topic?
  /// Version that an event named while the room was being read.
  var wantedVersion: Int64 = 0
  /// Whether entries may have been lost while the room was being read: its head is to be compared then.
  var mayHaveMissed = false
  /// Since when nobody hears it; nil while someone does.
  var unusedSince: Int64?
  /// Acknowledgements that wait for their entry's broadcast, by seq, with who gets them.
  var heldAcks: [Int64: (entry: Entry, sockets: [UInt64])] = [:]
  /// When its head moved last.
  var movedAt = HeadMark.beginning
  /// Called once it is known whether the room exists.
  var waiters: [(Result<Room?, AppError>) -> Void] = []

  /// Its topics wait a moment for messages that `ingest` has taken.
  init(_ id: RoomID, _ ingest: any Ingest) {
    self.id = id
    self.ingest = ingest
    relay = Self.makeTopic(id, ingest)
  }

  private static func makeTopic(_ id: RoomID, _ ingest: any Ingest) -> Topic {
    Topic { ingest.isExpecting(id) }
  }

  /// The topic of a dialect, for one that is to hear it.
  func makeTopic(_ kind: DialectKind) -> Topic {
    if kind == .relay { return relay }
    if let nano { return nano }
    let new = Self.makeTopic(id, ingest)
    nano = new
    return new
  }

  /// The topic of a dialect; nil where nobody has heard it.
  func topic(_ kind: DialectKind) -> Topic? { kind == .relay ? relay : nano }

  func takeWaiters() -> [(Result<Room?, AppError>) -> Void] {
    defer { waiters = [] }
    return waiters
  }
}
