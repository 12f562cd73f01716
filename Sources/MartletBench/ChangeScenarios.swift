internal import Basics

/// Edits and reactions among many listeners.
extension Scenario {
  enum Change: String {
    case edit, react
  }

  /// One room whose writer changes its first message again and again among many listeners, with this many changes in
  /// flight. Martlet only.
  func changes(
    _ change: Change, subscribers: Int, inFlight: Int, _ done: @escaping (Outcome) -> Void
  ) {
    makeRooms(1) { [self] rooms in
      openMembers(rooms, perRoom: subscribers) { [self] members in
        let writer = members[0]
        // Unowned: members live as long as the scenario.
        writer.client.onMessage = { [unowned self] text in
          guard let seq = Self.seq(text) else { return }
          runChanges(change, of: seq, members, inFlight, done)
        }
        writer.client.send(message(room: writer.room, seq: 1, clientID: nil))
      }
    }
  }

  private func runChanges(
    _ change: Change, of seq: Int, _ members: [Member], _ inFlight: Int,
    _ done: @escaping (Outcome) -> Void
  ) {
    let writer = members[0]
    var isMeasuring = false
    var deliveries = 0
    var sent = 0
    func sendOne() {
      sent += 1
      writer.client.send(frame(change, number: sent, of: seq, in: writer.room))
    }
    for member in members {
      let isWriter = member === writer
      member.client.onMessage = { text in
        guard let seq = Self.seq(text, of: change) else { return }
        member.take(seq)
        if isMeasuring { deliveries += 1 }
        if isWriter { sendOne() }
      }
    }
    for _ in 0..<inFlight { sendOne() }
    measure(done) {
      isMeasuring = true
    } end: { seconds, outcome in
      isMeasuring = false
      outcome.set("deliveries_per_s", Double(deliveries) / seconds)
      outcome.setOrder(of: members)
    }
  }

  /// A frame that changes something: another text, as long as that of a message, or a reaction that is given and taken back
  /// in turn.
  private func frame(_ change: Change, number: Int, of seq: Int, in room: Int) -> [UInt8] {
    var payload = Payload()
    payload.text(#"{"channel_id":""#)
    payload.number(room)
    payload.text(#"","of":"#)
    payload.number(seq)
    switch change {
    case .edit:
      payload.text(#","type":"edit","data":""#)
      let before = payload.bytes.count
      payload.number(number)
      payload.bytes += content.dropFirst(payload.bytes.count - before)
      payload.text(#""}"#)
    case .react:
      payload.text(#","type":"react","emoji":"👍","remove":"#)
      payload.text(number % 2 == 0 ? "true}" : "false}")
    }
    return BenchClient.textFrame(payload.bytes)
  }

  /// The seq of an entry that changes something, or nil if the frame is none.
  private static func seq(_ text: UnsafeRawBufferPointer, of change: Change) -> Int? {
    // {"type":"edited",...   {"type":"reacted",...
    let begin: StaticString = change == .edit ? "edited" : "reacted"
    guard text.count > 9 + begin.utf8CodeUnitCount else { return nil }
    for index in 0..<begin.utf8CodeUnitCount where text[9 + index] != begin.utf8Start[index] {
      return nil
    }
    return number(afterSeqIn: text)
  }
}
