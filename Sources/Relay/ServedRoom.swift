internal import Basics
internal import Chat
internal import Events
internal import Live

/// A room that one event loop serves: its feed, the topics of the two dialects, and what waits for it. On
/// the loop only.
final class ServedRoom {
  var feed = RoomFeed()
  let relay: Hub.Topic
  let nano: Hub.Topic
  /// Version that an event named while the room was being read.
  var wantedVersion: Int64 = 0
  /// Since when nobody hears it; nil while someone does.
  var unusedSince: Int64?
  /// Acknowledgements that wait for their entry's broadcast, by seq, with who gets them.
  var heldAcks: [Int64: (entry: Entry, sockets: [UInt64])] = [:]
  var waiters: [(Result<Room?, AppError>) -> Void] = []

  /// Its topics wait a moment for messages that `ingest` has taken.
  init(_ id: RoomID, _ ingest: any Ingest) {
    relay = Hub.Topic { ingest.isExpecting(id) }
    nano = Hub.Topic { ingest.isExpecting(id) }
  }

  func topic(_ dialect: Dialect) -> Hub.Topic { dialect == .relay ? relay : nano }

  func answerWaiters(_ result: Result<Room?, AppError>) {
    let waiting = waiters
    waiters = []
    for waiter in waiting { waiter(result) }
  }
}
