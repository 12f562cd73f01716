import Access
import Basics
import Chat
import Events
import TestSupport
import Web

@testable import Relay

/// A client of the nano protocol. It shows a token, selects rooms, writes, and records each broken promise of the
/// server.
///
/// The protocol's answers do not name their request. So the client knows only that after CONNECTED it hears one of the
/// rooms that it asked for, each of that room's messages once and in order, and none that it may not read.
final class WorldNanoClient: WorldSocket {
  let sink = FakeSink()
  let socket: RelaySocket<NanoDialect>
  var handler: any WebSocketHandler { socket }
  let user: UserID
  var failures: [String] = []
  private(set) var isReady = false
  /// The rooms that the client may be hearing: the last one that is known, and those that it asked for since.
  private var asked: [RoomID] = []
  /// The room that the client hears, with the last seq; nil if it has heard nothing since CONNECTED.
  private(set) var hears: (room: RoomID, seq: Int64)?
  private var isConnected = false
  private var frames = SinkFrames()
  private let database: WorldDatabase
  private let deliveredUnder: (RoomID, Int64) -> Int64

  init(
    _ relay: RelayLoop, _ user: UserID, _ database: WorldDatabase,
    deliveredUnder: @escaping (RoomID, Int64) -> Int64
  ) {
    self.user = user
    self.database = database
    self.deliveredUnder = deliveredUnder
    socket = RelaySocket(
      socket: sink, relay: relay, caller: nil,
      dialect: NanoDialect(maximumContentBytes: 1000, readyDue: relay.backend.now + 1 << 40))
    sink.closing = { [unowned self] in socket.closed() }
    socket.opened()
  }

  // MARK: Sending

  private func send(_ text: String) {
    guard sink.isOpen, sink.isReading else { return }
    Array(text.utf8).withUnsafeBytes { socket.received(text: $0) }
  }

  func show(_ token: String) { send(#"{"type":"token","content":"\#(token)"}"#) }
  func write(_ content: String) { send(#"{"type":"message","content":"\#(content)"}"#) }

  func select(_ room: RoomID) {
    asked.append(room)
    send(#"{"type":"select_room","room_id":\#(room.value)}"#)
  }

  // MARK: Reading

  func read() {
    while let frame = frames.next(of: sink) {
      guard let frame else {
        failures.append("not one JSON object")
        return
      }
      take(frame)
    }
  }

  private func take(_ frame: JSONObject) {
    guard frame["type"]?.string == "message" else {
      switch frame["data"]?.string {
      case "READY": isReady = true
      case "CONNECTED":
        if !isReady { failures.append("CONNECTED before READY") }
        isConnected = true
        hears = nil
      default: break
      }
      return
    }
    guard case .object(let data)? = frame["data"], let value = data["room_id"]?.wholeNumber,
      let seq = data["seq"]?.wholeNumber
    else {
      failures.append("a message without its room")
      return
    }
    takeMessage(data, RoomID(value), seq)
  }

  private func takeMessage(_ data: JSONObject, _ room: RoomID, _ seq: Int64) {
    guard isConnected else {
      failures.append("\(seq) of \(room) before CONNECTED")
      return
    }
    if let hears {
      if hears.room != room { failures.append("\(seq) of \(room), hears \(hears.room)") }
      if hears.seq + 1 != seq { failures.append("\(seq) of \(room) after \(hears.seq)") }
    } else if let index = asked.firstIndex(of: room) {
      // The requests before this one have been answered.
      asked.removeFirst(index)
    } else {
      failures.append("\(seq) of \(room), which it did not select")
    }
    hears = (room, seq)
    guard let entry = database.entries(of: room, after: seq - 1, through: seq).first,
      case .message(let content) = entry.body, data["content"]?.string == content.data
    else {
      failures.append("\(seq) of \(room) says something else than the log")
      return
    }
    if !database.mayEverRead(user, room, since: deliveredUnder(room, seq)) {
      failures.append("\(seq) of \(room) without the right")
    }
  }
}
