internal import Basics
internal import EventLoop

/// The delay of messages between two nodes.
extension Scenario {
  /// Rooms with a writer on this node and a reader on the other, at this many messages a second in total. Measures
  /// the time from the ack here to the frame there; 0 if the frame comes first.
  func nodes(
    _ count: Int, other: Target, ratePerSecond rate: Double, _ done: @escaping (Outcome) -> Void
  ) {
    makeRooms(count) { [self] rooms in
      openMembers(rooms, perRoom: 1) { [self] writers in
        openMembers(rooms, perRoom: 1, on: other) { [self] readers in
          runNodes(zip(writers, readers).map { NodePair(writer: $0, reader: $1) }, rate, done)
        }
      }
    }
  }

  private func runNodes(
    _ pairs: [NodePair], _ rate: Double, _ done: @escaping (Outcome) -> Void
  ) {
    var isMeasuring = false
    var latencies = Latencies()
    for pair in pairs {
      // Unowned: the timer below retains the pairs.
      pair.writer.client.onMessage = { [unowned pair] text in
        guard Self.isAck(text), let latency = pair.acknowledged(Monotonic.nanoseconds) else {
          return
        }
        if isMeasuring { latencies.add(latency) }
      }
      pair.reader.client.onMessage = { [unowned pair] text in
        guard let seq = Self.seq(text) else { return }
        pair.reader.take(seq)
        guard let latency = pair.heard(seq, Monotonic.nanoseconds) else { return }
        if isMeasuring { latencies.add(latency) }
      }
    }
    let start = Monotonic.nanoseconds
    var sent = 0
    loop.schedule(every: 1) { [self] in
      let due = Int(Double(Monotonic.nanoseconds - start) / 1e9 * rate)
      while sent < due {
        let pair = pairs[sent % pairs.count]
        sent += 1
        pair.writer.client.send(
          message(room: pair.writer.room, seq: 0, clientID: (pair.writer.number, sent)))
      }
    }
    measure(done) {
      isMeasuring = true
    } end: { seconds, outcome in
      isMeasuring = false
      outcome.set("messages_per_s", Double(latencies.count) / seconds)
      outcome.setOrder(of: pairs.map(\.reader))
      outcome.set(latencies)
    }
  }
}

/// A room with its writer on one node and its reader on another: when each message was acknowledged and when it was
/// received.
private final class NodePair {
  let writer: Scenario.Member
  let reader: Scenario.Member
  /// Indexed by seq - 1. Acks come in the order of seqs, because nobody else writes.
  private var acknowledgedAt: [UInt64] = []
  /// The messages that were received before their ack.
  private var early: Set<Int> = []

  init(writer: Scenario.Member, reader: Scenario.Member) {
    self.writer = writer
    self.reader = reader
  }

  /// An ack arrived. Returns the time of the frame, if that has arrived already.
  func acknowledged(_ moment: UInt64) -> UInt64? {
    acknowledgedAt.append(moment)
    return early.remove(acknowledgedAt.count) == nil ? nil : 0
  }

  /// A frame arrived. Returns the time of its ack, if that has arrived already.
  func heard(_ seq: Int, _ moment: UInt64) -> UInt64? {
    guard seq <= acknowledgedAt.count else {
      early.insert(seq)
      return nil
    }
    return moment - acknowledgedAt[seq - 1]
  }
}
