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
  /// The people who have muted the room, each with the time until which that counts.
  var muted: [UserID: Timestamp] = [:]
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
  func loaded(_ loaded: LoadedRoom) {
    if loaded.room.kind == .channel { team = loaded.room.properties.team }
    muted = loaded.muted
  }

  /// The people who should be notified of an entry: of a message in a dialog the other one, otherwise those whom it
  /// mentions. Nobody is notified of their own messages, nor in rooms that they have muted.
  func notified(of entry: Entry) -> [UserID] {
    guard case .message(let content) = entry.body, let room = feed.room else { return [] }
    let isDialog = room.kind == .dialog
    if !isDialog, content.extras == nil { return [] }
    let people = isDialog ? others(than: entry.from, in: room) : content.extras?.mentions ?? []
    let now = Timestamp.now
    return people.filter { user in
      user != entry.from && muted[user].map { $0 <= now } ?? true
    }
  }

  private func others(than author: UserID?, in dialog: Room) -> [UserID] {
    if let pair = dialog.properties.pair { return [pair.low, pair.high] }
    return Set(dialog.rules.map { UserID($0.subject) } + dialog.people.all.map(\.userID)).sorted {
      $0.uuid < $1.uuid
    }
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
