internal import Basics
internal import EventLoop

/// The result of a run, printed as one JSON object.
struct Outcome {
  var values: [(String, Double)] = []

  mutating func set(_ name: String, _ value: Double) { values.append((name, value)) }
}

/// Durations in nanoseconds, with percentiles in milliseconds.
struct Latencies {
  private var samples: [UInt64] = []

  var count: Int { samples.count }

  mutating func add(_ nanoseconds: UInt64) { samples.append(nanoseconds) }

  func percentile(_ share: Double) -> Double {
    guard !samples.isEmpty else { return 0 }
    let sorted = samples.sorted()
    return Double(sorted[min(sorted.count - 1, Int(Double(sorted.count) * share))]) / 1e6
  }
}

extension Outcome {
  /// The percentiles in milliseconds.
  mutating func set(_ latencies: Latencies) {
    set("p50_ms", latencies.percentile(0.5))
    set("p99_ms", latencies.percentile(0.99))
    set("p999_ms", latencies.percentile(0.999))
  }

  mutating func setOrder(of members: [Scenario.Member]) {
    set("gaps", Double(members.reduce(0) { $0 + $1.gaps }))
    set("duplicates", Double(members.reduce(0) { $0 + $1.duplicates }))
  }
}

/// Composes the bytes of a frame's JSON text.
struct Payload {
  var bytes: [UInt8] = []

  init() { bytes.reserveCapacity(512) }

  mutating func text(_ text: StaticString) {
    bytes.append(
      contentsOf: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
  }

  /// In decimal.
  ///
  /// - Parameter value: 0 and above.
  mutating func number(_ value: Int) {
    var power = 1
    while value / power >= 10 { power *= 10 }
    while power > 0 {
      bytes.append(UInt8(ascii: "0") + UInt8(value / power % 10))
      power /= 10
    }
  }
}

/// The load that is put on a server. Runs on one loop.
final class Scenario {
  let loop: Loop
  let target: Target
  let seconds: Double
  private var clients: [BenchClient] = []

  /// The text of all messages.
  let content: [UInt8]
  let usage: ServerUsage

  init(
    loop: Loop, target: Target, seconds: Double, contentBytes: Int, usage: ServerUsage
  ) {
    content = Array(repeating: UInt8(ascii: "x"), count: contentBytes)
    self.usage = usage
    self.loop = loop
    self.target = target
    self.seconds = seconds
  }

  // MARK: Measuring

  /// Calls `begin` half a second after the preparation, and `end` when the measured time is over. Then reports the
  /// outcome, with the resources that the server used meanwhile.
  func measure(
    _ done: @escaping (Outcome) -> Void, begin: @escaping () -> Void,
    end: @escaping (_ seconds: Double, _ outcome: inout Outcome) -> Void
  ) {
    loop.schedule(after: 500) { [self] in
      begin()
      let start = Monotonic.nanoseconds
      let processor = usage.processorSeconds
      loop.schedule(after: Int(seconds * 1000)) { [self] in
        let elapsed = Double(Monotonic.nanoseconds - start) / 1e9
        var outcome = Outcome()
        end(elapsed, &outcome)
        if !usage.processes.isEmpty {
          outcome.set("server_cores", (usage.processorSeconds - processor) / elapsed)
          outcome.set("server_mb", usage.residentMegabytes)
        }
        done(outcome)
      }
    }
  }

  // MARK: Preparation

  /// Creates rooms on Martlet, in order. Relays accept any number as a room.
  func makeRooms(_ count: Int, _ done: @escaping ([Int]) -> Void) {
    guard target.kind == .martlet else {
      done(Array(1...count))
      return
    }
    var ids: [Int] = []
    let client = connect(.http)
    let body = #"{"name":"bench","level_admin":9999,"type":"group"}"#
    let request = target.request("POST", "/v1/rooms", user: 0, body: body)
    client.onOpen = { client.send(request) }
    client.onMessage = { answer in
      let text = String(decoding: answer, as: UTF8.self)
      guard let start = text.firstRange(of: "\"id\":"),
        let id = Int(text[start.upperBound...].prefix { $0.isNumber })
      else { fail("no room: \(text)") }
      ids.append(id)
      if ids.count < count {
        client.send(request)
      } else {
        client.close()
        done(ids)
      }
    }
  }

  /// Connects to another node if one is named.
  func connect(_ mode: BenchClient.Mode, to node: Target? = nil) -> BenchClient {
    guard
      let client = BenchClient(
        loop: loop, port: (node ?? target).port, number: clients.count, mode: mode)
    else { fail("no connection") }
    clients.append(client)
    return client
  }

  /// The number of connections that are opened concurrently.
  static let openedAtOnce = 64

  /// Opens members of rooms, some at a time, on another node if one is named. Calls back when all have joined their
  /// room.
  func openMembers(
    _ rooms: [Int], perRoom: Int, on node: Target? = nil, _ done: @escaping ([Member]) -> Void
  ) {
    var members: [Member] = []
    var open = 0
    let total = rooms.count * perRoom
    func openNext() {
      guard members.count < total else { return }
      let number = members.count
      let room = rooms[number / perRoom]
      let client = connect(
        .webSocket(handshake: (node ?? target).handshake(user: number, room: room)), to: node)
      let member = Member(client: client, room: room, number: number)
      members.append(member)
      func ready() {
        open += 1
        if open == total { done(members) } else { openNext() }
      }
      client.onClose = { fail("connection \(number) was closed") }
      if target.kind == .martlet {
        client.onOpen = {
          client.send(
            BenchClient.textFrame(Array(#"{"type":"subscribe","channels":["\#(room)"]}"#.utf8)))
        }
        client.onMessage = { text in
          if contains(text, "\"subscribed\"") { ready() }
        }
      } else {
        client.onOpen = ready
      }
    }
    for _ in 0..<min(Self.openedAtOnce, total) { openNext() }
  }

  /// One connection in a room.
  final class Member {
    let client: BenchClient
    let room: Int
    let number: Int
    private var lastSeq = 0
    private(set) var gaps = 0
    private(set) var duplicates = 0
    /// When each message without an answer was sent. Answers come in the order of the messages.
    private var waiting: [UInt64] = []

    func noteSend(at moment: UInt64) { waiting.append(moment) }

    /// When the message was sent whose answer has arrived; nil if none was expected.
    func noteAnswer() -> UInt64? { waiting.isEmpty ? nil : waiting.removeFirst() }

    /// Checks that the messages of the room arrive in order.
    func take(_ seq: Int) {
      if lastSeq != 0, seq != lastSeq + 1 {
        if seq > lastSeq { gaps += 1 } else { duplicates += 1 }
      }
      lastSeq = max(lastSeq, seq)
    }

    init(client: BenchClient, room: Int, number: Int) {
      self.client = client
      self.room = room
      self.number = number
    }
  }

  // MARK: Messages

  /// The bytes that a client sends. For Martlet a frame of relay v1; for a relay a frame as long as the one that
  /// Martlet's subscribers receive, with the seq in it. Built from bytes, without a `String`, because the generator
  /// shares the processors with the server.
  ///
  /// - Parameter clientID: the room's member and the number of its message, unique in this run.
  func message(room: Int, seq: Int, clientID: (member: Int, number: Int)?) -> [UInt8] {
    var payload = Payload()
    switch target.kind {
    case .martlet:
      payload.text(#"{"channel_id":""#)
      payload.number(room)
      payload.text(#"","to":"*","type":"text","data":""#)
      payload.bytes += content
      if let clientID {
        payload.text(#"","client_id":""#)
        payload.number(clientID.member)
        payload.text("-")
        payload.number(clientID.number)
        payload.text("-")
        payload.bytes += runID
      }
      payload.text(#""}"#)
    case .relay:
      payload.text(#"{"type":"text","channel_id":""#)
      payload.number(room)
      payload.text(#"","room_id":"#)
      payload.number(room)
      payload.text(#","seq":"#)
      payload.number(seq)
      payload.text(#","id":""#)
      payload.bytes += Self.idLengthPadding
      payload.text(#"","from":""#)
      payload.bytes += Self.idLengthPadding
      payload.text(#"","to":"*","data":""#)
      payload.bytes += content
      payload.text(#"","ts":"2026-01-01T00:00:00.000Z"}"#)
    }
    return BenchClient.textFrame(payload.bytes)
  }

  /// As long as the UUIDs in Martlet's frames.
  private static let idLengthPadding = [UInt8](repeating: UInt8(ascii: "0"), count: 36)

  /// The number after `"seq":`, or nil if this is not a message.
  static func seq(_ text: UnsafeRawBufferPointer) -> Int? {
    // {"type":"text","channel_id":"1","room_id":1,"seq":
    guard text.count > 50, text[9] == UInt8(ascii: "t"), text[10] == UInt8(ascii: "e") else {
      return nil
    }
    return number(afterSeqIn: text)
  }

  /// The number after the first `"seq":` of an entry's frame.
  static func number(afterSeqIn text: UnsafeRawBufferPointer) -> Int? {
    var index = 40
    while index + 6 < text.count,
      text[index] != UInt8(ascii: "q") || text[index + 1] != UInt8(ascii: "\"")
    {
      index += 1
      if index > 90 { return nil }
    }
    index += 3
    var value = 0
    while index < text.count, (48...57).contains(text[index]) {
      value = value * 10 + Int(text[index] - 48)
      index += 1
    }
    return value
  }

  // MARK: fanout

  /// One room with one writer among many listeners, and this many messages in flight.
  func fanout(
    subscribers: Int, inFlight: Int, ratePerSecond: Double?, _ done: @escaping (Outcome) -> Void
  ) {
    makeRooms(1) { [self] rooms in
      openMembers(rooms, perRoom: subscribers) { [self] members in
        runFanout(members, inFlight, ratePerSecond, done)
      }
    }
  }

  private func runFanout(
    _ members: [Member], _ inFlight: Int, _ rate: Double?, _ done: @escaping (Outcome) -> Void
  ) {
    let writer = members[0]
    var isMeasuring = false
    var deliveries = 0
    var sent = 0
    var back = 0
    var sentAt: [UInt64] = []
    var latencies = Latencies()
    func sendOne() {
      sent += 1
      sentAt.append(Monotonic.nanoseconds)
      writer.client.send(message(room: writer.room, seq: sent, clientID: nil))
    }
    for member in members {
      let isWriter = member === writer
      member.client.onMessage = { text in
        guard let seq = Self.seq(text) else { return }
        member.take(seq)
        if isMeasuring { deliveries += 1 }
        if rate != nil, isMeasuring, seq <= sentAt.count, seq > 0 {
          latencies.add(Monotonic.nanoseconds - sentAt[seq - 1])
        }
        if isWriter {
          back += 1
          if rate == nil { sendOne() }
        }
      }
    }
    if let rate {
      let start = Monotonic.nanoseconds
      loop.schedule(every: 1) {
        let due = Int(Double(Monotonic.nanoseconds - start) / 1e9 * rate)
        while sent < due { sendOne() }
      }
    } else {
      for _ in 0..<inFlight { sendOne() }
    }
    measure(done) {
      isMeasuring = true
    } end: { seconds, outcome in
      isMeasuring = false
      outcome.set("deliveries_per_s", Double(deliveries) / seconds)
      outcome.setOrder(of: members)
      if rate != nil { outcome.set(latencies) }
    }
  }

  // MARK: rooms, ingest

  /// Many rooms whose members all write in turn, with this many messages in flight per room. Beside that, members say so
  /// many times a second that they are typing.
  func rooms(
    _ count: Int, members perRoom: Int, inFlight: Int, ratePerSecond: Double?,
    typingPerSecond: Double = 0, _ done: @escaping (Outcome) -> Void
  ) {
    makeRooms(count) { [self] rooms in
      openMembers(rooms, perRoom: perRoom) { [self] members in
        if typingPerSecond > 0 { type(members, perSecond: typingPerSecond) }
        runRooms(members, perRoom, inFlight, ratePerSecond, done)
      }
    }
  }

  private func type(_ members: [Member], perSecond rate: Double) {
    let start = Monotonic.nanoseconds
    var sent = 0
    loop.schedule(every: 1) {
      let due = Int(Double(Monotonic.nanoseconds - start) / 1e9 * rate)
      while sent < due {
        let member = members[sent % members.count]
        var payload = Payload()
        payload.text(#"{"type":"typing","channel_id":""#)
        payload.number(member.room)
        payload.text(#""}"#)
        member.client.send(BenchClient.textFrame(payload.bytes))
        sent += 1
      }
    }
  }

  private func runRooms(
    _ members: [Member], _ perRoom: Int, _ inFlight: Int, _ rate: Double?,
    _ done: @escaping (Outcome) -> Void
  ) {
    let groups = stride(from: 0, to: members.count, by: perRoom).map {
      Array(members[$0..<($0 + perRoom)])
    }
    var isMeasuring = false
    var acks = 0
    var deliveries = 0
    var latencies = Latencies()
    var turns = Array(repeating: 0, count: groups.count)
    var sent = Array(repeating: 0, count: groups.count)
    func sendOne(_ group: Int) {
      let member = groups[group][turns[group] % perRoom]
      turns[group] += 1
      sent[group] += 1
      member.noteSend(at: Monotonic.nanoseconds)
      member.client.send(
        message(
          // A relay returns what it received, so the seq identifies the sender.
          room: member.room, seq: target.kind == .relay ? member.number : sent[group],
          clientID: (member.number, turns[group])))
    }
    for (index, group) in groups.enumerated() {
      for member in group {
        let number = member.number
        let isMartlet = target.kind == .martlet
        // Unowned: members live as long as the scenario.
        member.client.onMessage = { [unowned member] text in
          let seq = Self.seq(text)
          if let seq {
            if isMartlet { member.take(seq) }
            if isMeasuring { deliveries += 1 }
          }
          guard isMartlet ? Self.isAck(text) : seq == number, let start = member.noteAnswer()
          else { return }
          if isMeasuring {
            acks += 1
            latencies.add(Monotonic.nanoseconds - start)
          }
          if rate == nil { sendOne(index) }
        }
      }
    }
    if let rate {
      let start = Monotonic.nanoseconds
      var total = 0
      loop.schedule(every: 1) {
        let due = Int(Double(Monotonic.nanoseconds - start) / 1e9 * rate)
        while total < due {
          sendOne(total % groups.count)
          total += 1
        }
      }
    } else {
      for index in groups.indices { for _ in 0..<inFlight { sendOne(index) } }
    }
    measure(done) {
      isMeasuring = true
    } end: { seconds, outcome in
      isMeasuring = false
      outcome.set("messages_per_s", Double(acks) / seconds)
      outcome.set("deliveries_per_s", Double(deliveries) / seconds)
      outcome.setOrder(of: members)
      outcome.set(latencies)
    }
  }

  private let runID = Array(String(Monotonic.nanoseconds, radix: 36).utf8)

  static func isAck(_ text: UnsafeRawBufferPointer) -> Bool {
    text.count > 12 && text[9] == UInt8(ascii: "a") && text[10] == UInt8(ascii: "c")
  }

  // MARK: idle, connect

  /// Opens this many connections, with a limited number at a time, and leaves them open. Reports the time until each
  /// of them was told that it is ready; with `hearsRooms`, with the rooms that it may read.
  func open(
    _ count: Int, atOnce: Int, hearsRooms: Bool, _ done: @escaping (Outcome) -> Void
  ) {
    makeRooms(1) { [self] rooms in
      // Prepared before the time is measured, because another system signs tokens.
      let handshakes = (0..<count).map {
        target.handshake(
          user: $0, room: rooms[0], followsAllRooms: hearsRooms)
      }
      let start = Monotonic.nanoseconds
      var opened = 0
      var ready = 0
      func openNext() {
        guard opened < count else { return }
        let number = opened
        opened += 1
        let client = connect(.webSocket(handshake: handshakes[number]))
        client.onClose = { fail("connection \(number) was closed") }
        func isReady() {
          ready += 1
          if ready < count { openNext() } else { finish() }
        }
        if target.kind == .martlet {
          client.onMessage = { text in
            if contains(text, "\"ready\"") { isReady() }
          }
        } else {
          client.onOpen = isReady
        }
      }
      func finish() {
        let elapsed = Double(Monotonic.nanoseconds - start) / 1e9
        var outcome = Outcome()
        outcome.set("connections", Double(count))
        outcome.set("connects_per_s", Double(count) / elapsed)
        if !usage.processes.isEmpty { outcome.set("server_mb", usage.residentMegabytes) }
        done(outcome)
      }
      for _ in 0..<min(atOnce, count) { openNext() }
    }
  }

  // MARK: http

  /// This many connections, each of which sends its next request as soon as it has an answer.
  func http(path: String, connections: Int, _ done: @escaping (Outcome) -> Void) {
    let request = target.request("GET", path, user: 0)
    var answers = 0
    var isMeasuring = false
    for _ in 0..<connections {
      let client = connect(.http)
      client.onOpen = { client.send(request) }
      client.onMessage = { _ in
        if isMeasuring { answers += 1 }
        client.send(request)
      }
    }
    measure(done) {
      isMeasuring = true
    } end: { seconds, outcome in
      isMeasuring = false
      outcome.set("requests_per_s", Double(answers) / seconds)
    }
  }
}

func contains(_ text: UnsafeRawBufferPointer, _ part: StaticString) -> Bool {
  let part = UnsafeRawBufferPointer(start: part.utf8Start, count: part.utf8CodeUnitCount)
  var start = 0
  // Bytes instead of a `String`, because the generator shares the processors with the server.
  while start + part.count <= text.count {
    if text[start] == part[0],
      UnsafeRawBufferPointer(rebasing: text[start..<(start + part.count)]).elementsEqual(part)
    {
      return true
    }
    start += 1
  }
  return false
}

func fail(_ message: String) -> Never {
  print("{\"error\":\"\(message)\"}")
  ProcessEnvironment.exit(1)
}
