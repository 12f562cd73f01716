internal import Basics
internal import Chat
internal import Events
internal import Live

/// A room that one event loop serves: its feed, the topics of the two dialects, and what waits for it. On
/// the loop only.
final class ServedRoom {
  var feed = RoomFeed()
  let relay: Topic
  let nano: Topic
  /// Version that an event named while the room was being read.
  var wantedVersion: Int64 = 0
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
    relay = Topic { ingest.isExpecting(id) }
    nano = Topic { ingest.isExpecting(id) }
  }

  func topic(_ kind: DialectKind) -> Topic { kind == .relay ? relay : nano }

  func takeWaiters() -> [(Result<Room?, AppError>) -> Void] {
    defer { waiters = [] }
    return waiters
  }
}

/// A moment in the life of a loop's rooms: how many times any of their heads has moved.
struct HeadMark: Comparable {
  private var moves: UInt64 = 0

  static let beginning = HeadMark()
  static func < (left: HeadMark, right: HeadMark) -> Bool { left.moves < right.moves }

  mutating func advance() { moves += 1 }
}
