import Access
import Basics
import Chat
import Events
import Live
import TestSupport
import Web

@testable import Relay

/// A client of relay v1. It sends frames, reads, and records each broken promise of the server.
final class WorldClient: WorldSocket {
  let sink = FakeSink()
  let socket: RelaySocket<RelayDialect>
  var handler: any WebSocketHandler { socket }
  let user: UserID
  var failures: [String] = []
  private(set) var isReady = false
  /// For each room that it hears, the highest seq up to which it has everything.
  private(set) var cursors: [RoomID: Int64] = [:]
  /// Its last cursor in rooms that it does not hear any more.
  private(set) var lastCursors: [RoomID: Int64] = [:]
  /// Messages without an answer, by `client_id`, with the number of times each was sent.
  private(set) var unanswered: [String: (room: RoomID, data: String, count: Int)] = [:]
  /// The seq after which a requested replay begins, until the replay has begun.
  private var resuming: [RoomID: Int64] = [:]
  /// The seqs of acks that came before their entries. That is correct only if the client loses the room next: entries
  /// that were held while nothing could be sent are then dropped.
  private(set) var early: [RoomID: Int64] = [:]
  /// The number of unanswered `subscribe`, `unsubscribe` and `resume` requests, by room.
  private(set) var asked: [RoomID: Int] = [:]
  /// Rooms that the client left and does not follow any more.
  private(set) var left: Set<RoomID> = []
  /// Whether a whole frame was refused, so that it is unknown which rooms the client has left.
  private(set) var isUnsure = false
  let followsAllRooms: Bool
  private var frames = SinkFrames()
  private let database: WorldDatabase
  /// Returns the lowest version of the rules that may have applied when this loop delivered an entry.
  var deliveredUnder: (RoomID, Int64) -> Int64 = { _, _ in 0 }

  init(
    _ relay: RelayLoop, _ caller: Caller, followsAllRooms: Bool, _ database: WorldDatabase
  ) {
    user = caller.userID
    self.followsAllRooms = followsAllRooms
    self.database = database
    socket = RelaySocket(
      socket: sink, relay: relay, caller: caller,
      dialect: RelayDialect(
        followsAllRooms: followsAllRooms, maximumContentBytes: 1000, maximumHeldBytes: 1 << 30,
        openingMilliseconds: 1 << 40, now: relay.backend.now))
    sink.closing = { [unowned self] in socket.closed() }
    socket.opened()
  }

  // MARK: Sending

  func send(_ text: String) {
    guard sink.isOpen, sink.isReading else { return }
    Array(text.utf8).withUnsafeBytes { socket.received(text: $0) }
  }

  func write(_ data: String, to room: RoomID, _ clientID: String) {
    guard sink.isOpen, sink.isReading else { return }
    unanswered[clientID] = (room, data, (unanswered[clientID]?.count ?? 0) + 1)
    send(
      #"{"type":"text","channel_id":"\#(room)","to":"*","data":"\#(data)","client_id":"\#(clientID)"}"#
    )
  }

  func subscribe(_ rooms: [RoomID]) {
    ask(rooms) {
      left.subtract(rooms)
      send(#"{"type":"subscribe","channels":\#(Self.names(rooms)),"client_id":"s"}"#)
    }
  }

  func unsubscribe(_ rooms: [RoomID]) {
    ask(rooms) {
      left.formUnion(rooms)
      send(#"{"type":"unsubscribe","channels":\#(Self.names(rooms)),"client_id":"s"}"#)
    }
  }

  private static func names(_ rooms: [RoomID]) -> [String] { rooms.map(\.description) }

  /// Resumes a room, but only one that the client does not hear and has not asked for: then the expected answer is
  /// known.
  func resume(_ room: RoomID, from last: Int64) {
    guard isReady, cursors[room] == nil, asked[room] == nil else { return }
    ask([room]) {
      left.remove(room)
      resuming[room] = last
      send(#"{"type":"resume","channels":{"\#(room)":\#(last)},"client_id":"s"}"#)
    }
  }

  private func ask(_ rooms: [RoomID], _ body: () -> Void) {
    guard sink.isOpen, sink.isReading else { return }
    for room in rooms { asked[room, default: 0] += 1 }
    body()
  }

  /// Counts an answer. `RoomFeedTests` proves that each request is answered once.
  private func answered(_ room: RoomID) {
    if let count = asked[room] { asked[room] = count > 1 ? count - 1 : nil }
  }

  // MARK: Reading

  /// Reads the frames that have arrived.
  func read() {
    while let frame = frames.next(of: sink) {
      guard let frame else {
        failures.append("not one JSON object")
        return
      }
      take(frame)
    }
  }

  private func seq(_ object: JSONObject) -> Int64 { object["seq"]?.wholeNumber ?? -1 }

  private func take(_ object: JSONObject) {
    let type = object["type"]?.string ?? ""
    if !isReady, type != "ready" { failures.append("\(type) before ready") }
    let room = object["room_id"]?.wholeNumber.map { RoomID($0) }
    switch type {
    case "ready":
      if isReady { failures.append("ready twice") }
      isReady = true
      for (room, seq) in heads(object) { cursors[room] = seq }
    case "heartbeat":
      for (room, seq) in heads(object) {
        guard let cursor = cursors[room] else {
          failures.append("heartbeat says \(seq) of \(room), which it does not hear")
          continue
        }
        if cursor < seq, asked[room] == nil {
          failures.append("heartbeat says \(seq) of \(room), has \(cursor)")
        }
      }
    case "authed", "expiring", "invitation": break
    case "ack": takeAck(object)
    case "error": takeError(object)
    default:
      guard let room else {
        failures.append("\(type) without a room")
        return
      }
      takeRoomFrame(type, room, object)
    }
  }

  private func heads(_ object: JSONObject) -> [(RoomID, Int64)] {
    guard case .array(let channels)? = object["channels"] else { return [] }
    return channels.compactMap(\.object).map {
      (RoomID($0["room_id"]?.wholeNumber ?? 0), seq($0))
    }
  }

  private func takeRoomFrame(_ type: String, _ room: RoomID, _ object: JSONObject) {
    let seq = seq(object)
    switch type {
    case "channel":
      if cursors[room] != nil { failures.append("channel \(room), heard already") }
      cursors[room] = seq
    case "subscribed":
      answered(room)
      if let cursor = cursors[room], cursor != seq {
        failures.append("subscribed to \(room) at \(seq), has \(cursor)")
      }
      cursors[room] = seq
    case "reset":
      answered(room)
      resuming[room] = nil
      cursors[room] = seq
    case "resumed":
      answered(room)
      beginReplay(room, at: seq)
      if cursors[room] != seq {
        failures.append("resumed \(room) at \(seq), has \(cursors[room] ?? -1)")
      }
    case "unsubscribed":
      answered(room)
      leave(room)
    case "gone":
      early[room] = nil
      leave(room)
    case "text": takeEntry(room, seq, object)
    default: failures.append("unknown frame \(type)")
    }
  }

  /// A replay begins at the seq that the client named, whatever the client has received since it asked.
  private func beginReplay(_ room: RoomID, at seq: Int64) {
    if resuming[room] == seq { cursors[room] = resuming.removeValue(forKey: room) }
  }

  private func leave(_ room: RoomID) {
    if let cursor = cursors.removeValue(forKey: room) { lastCursors[room] = cursor }
  }

  private func takeEntry(_ room: RoomID, _ seq: Int64, _ object: JSONObject) {
    if cursors[room] != seq - 1 { beginReplay(room, at: seq - 1) }
    guard let cursor = cursors[room] else {
      failures.append("entry \(seq) of \(room), which it does not hear")
      return
    }
    if let early = early[room] { failures.append("ack of \(early) of \(room) at \(cursor)") }
    if seq != cursor + 1 { failures.append("\(seq) of \(room) after \(cursor)") }
    cursors[room] = seq
    guard let stored = database.rooms[room], seq >= 1, seq <= stored.lastSeq else {
      failures.append("\(seq) of \(room) is not in the log")
      return
    }
    let entry = stored.entries[Int(seq - 1)]
    guard case .message(let content) = entry.body, object["data"]?.string == content.data else {
      failures.append("\(seq) of \(room) says \(object["data"]?.string ?? "nothing")")
      return
    }
    let shown = object["client_id"]?.string
    if shown != nil, entry.from != user { failures.append("somebody else's client_id") }
    if shown == nil, entry.from == user, entry.clientID != nil {
      failures.append("its own message without client_id")
    }
    // Access is judged by the rules that applied when the entry was delivered.
    if !database.mayEverRead(user, room, since: deliveredUnder(room, seq)) {
      failures.append("\(seq) of \(room) without the right")
    }
  }

  private func takeAck(_ object: JSONObject) {
    let clientID = object["client_id"]?.string ?? ""
    guard let (room, data) = takeUnanswered(clientID) else {
      failures.append("ack of \(clientID), not asked")
      return
    }
    let seq = seq(object)
    guard let stored = database.rooms[room], seq >= 1, seq <= stored.lastSeq,
      stored.entries[Int(seq - 1)].body == .message(MessageContent(type: .text, data: data)),
      stored.entries[Int(seq - 1)].clientID == clientID
    else {
      failures.append("ack of \(clientID) for another entry")
      return
    }
    if let cursor = cursors[room], cursor < seq, asked[room] == nil {
      early[room] = seq
    }
  }

  private func takeUnanswered(_ clientID: String) -> (room: RoomID, data: String)? {
    guard let known = unanswered[clientID] else { return nil }
    unanswered[clientID] =
      known.count > 1 ? (known.room, known.data, known.count - 1) : nil
    return (known.room, known.data)
  }

  private func takeError(_ object: JSONObject) {
    guard let clientID = object["client_id"]?.string else { return }
    if takeUnanswered(clientID) != nil { return }
    guard clientID == "s" else { return }
    guard let room = object["channel_id"]?.string.flatMap({ RoomID($0) }) else {
      isUnsure = true
      return
    }
    answered(room)
    resuming[room] = nil
    leave(room)
    switch object["code"]?.string {
    // A room that does not exist cannot be left. (Later requests are answered after this.)
    case "room_not_found": if asked[room] == nil { left.remove(room) }
    // The client was told that the room is unavailable, and would have to ask again.
    case "unavailable": left.insert(room)
    default: break
    }
  }
}
