package import Basics
package import EventLoop
package import Web

/// The WebSockets of one event loop and what is on its way to them. Knows frames, not rooms.
///
/// A frame for a topic is appended once to the topic's batch, whatever the number of subscribers; at
/// the end of the turn each subscriber is written the batch, in one `send`. Frames for one connection
/// keep their place between those of a topic where the caller names it. On the loop only.
///
/// Hot path: concrete types, no allocation and no encoding per subscriber (`fanout` benchmark).
package final class Hub {
  package let loop: Loop
  private let metrics: LiveMetrics
  private let sendQueueBytes: Int
  /// Messages that are being committed: while there are some, a flush may wait for them.
  private let outstanding: () -> Int

  private var dirtyTopics: [Topic] = []
  private var dirtyConnections: [Connection] = []
  /// Counts flushes; a subscription's offset counts in the turn that it was set in only.
  private var turn: UInt64 = 1
  private var firstPending: UInt64 = 0
  private var isTimerArmed = false
  private var nextNumber: UInt64 = 0
  private var slow: [Connection] = []

  /// How long a flush waits for messages that are being committed: as long as a commit takes, so
  /// that one `send` carries more of them.
  private static let gatherNanoseconds: UInt64 = 1_000_000
  /// Buffers that grew beyond this are given back after the turn.
  private static let keptBytes = 256 * 1024

  /// `outstanding` tells how many accepted messages have not been published yet.
  package init(
    loop: Loop, sendQueueBytes: Int, metrics: LiveMetrics, outstanding: @escaping () -> Int
  ) {
    loop.preconditionOnLoop()
    self.loop = loop
    self.sendQueueBytes = sendQueueBytes
    self.metrics = metrics
    self.outstanding = outstanding
  }

  // MARK: Connections and topics

  /// One WebSocket as the hub sees it.
  package final class Connection {
    package let socket: WebSocket
    /// Unique on this loop, never reused.
    package let number: UInt64
    /// Frames of this turn that are for this connection alone, with what of its topics goes before.
    fileprivate var out: [UInt8] = []
    fileprivate var isDirty: Bool { socket.outlet.blockers.contains(.ownFrames) }

    fileprivate init(socket: WebSocket, number: UInt64) {
      self.socket = socket
      self.number = number
    }
  }

  /// Something that many connections hear.
  package final class Topic {
    fileprivate var batch: [UInt8] = []
    fileprivate var isDirty = false
    fileprivate var subscribers: [Subscriber] = []
    /// Position in `subscribers` by connection number.
    fileprivate var positions: [UInt64: Int] = [:]

    package init() {}

    package var isEmpty: Bool { subscribers.isEmpty }
    package var count: Int { subscribers.count }

    fileprivate struct Subscriber {
      let connection: Connection
      /// The connection's; it lives as long as the connection above.
      let outlet: Unmanaged<Outlet>
      /// Where in the batch of turn `turn` this subscriber's part begins; in other turns at 0.
      var from: Int
      var turn: UInt64
    }
  }

  package func makeConnection(_ socket: WebSocket) -> Connection {
    loop.preconditionOnLoop()
    nextNumber += 1
    return Connection(socket: socket, number: nextNumber)
  }

  /// From here on the connection hears the topic; nothing that was published before.
  package func subscribe(_ connection: Connection, to topic: Topic) {
    guard topic.positions[connection.number] == nil else { return }
    topic.positions[connection.number] = topic.subscribers.count
    topic.subscribers.append(
      Topic.Subscriber(
        connection: connection, outlet: .passUnretained(connection.socket.outlet),
        from: topic.batch.count, turn: turn))
  }

  /// The connection hears what was published until now, and nothing after.
  package func unsubscribe(_ connection: Connection, from topic: Topic) {
    guard topic.positions[connection.number] != nil else { return }
    catchUp(connection, topic)
    // Catching up does not move subscribers.
    guard let position = topic.positions.removeValue(forKey: connection.number) else { return }
    let last = topic.subscribers.count - 1
    if position != last {
      topic.subscribers[position] = topic.subscribers[last]
      topic.positions[topic.subscribers[position].connection.number] = position
    }
    topic.subscribers.removeLast()
  }

  // MARK: Sending

  /// A frame to all subscribers of a topic.
  package func publish(_ frame: [UInt8], to topic: Topic) {
    guard !topic.isEmpty else { return }
    topic.batch.append(contentsOf: frame)
    markDirty(topic)
  }

  /// As `publish`, but these connections get a frame of their own in its place.
  package func publish(
    _ frame: [UInt8], to topic: Topic, except connections: [Connection], theirs: [UInt8]
  ) {
    var positions: [Int] = []
    for connection in connections {
      guard let position = topic.positions[connection.number] else { continue }
      send(theirs, to: connection, after: topic)
      positions.append(position)
    }
    guard positions.count < topic.count else { return }
    topic.batch.append(contentsOf: frame)
    for position in positions {
      topic.subscribers[position].from = topic.batch.count
      topic.subscribers[position].turn = turn
    }
    markDirty(topic)
  }

  /// A frame to one connection: after everything sent to it alone, and after everything published to
  /// `topic` so far.
  package func send(_ frame: [UInt8], to connection: Connection, after topic: Topic? = nil) {
    guard connection.socket.isOpen else { return }
    if let topic { catchUp(connection, topic) }
    metrics.framesOut.add()
    connection.out.append(contentsOf: frame)
    markDirty(connection)
  }

  /// Writes what was sent to this connection alone, now: its socket then tells what must wait.
  package func flush(_ connection: Connection) {
    guard connection.isDirty, !connection.out.isEmpty else { return }
    connection.out.withUnsafeBytes { connection.socket.send(frames: $0) }
    // It stays among the dirty ones until the end of the turn, with nothing left to write.
    connection.out = []
  }

  /// Bytes that wait for the connection's reader; frames of this turn count once they are written.
  package func queuedBytes(of connection: Connection) -> Int { connection.socket.queuedBytes }

  /// Moves what the topic has for the connection so far into the connection's own frames.
  private func catchUp(_ connection: Connection, _ topic: Topic) {
    guard topic.isDirty, let position = topic.positions[connection.number] else { return }
    let subscriber = topic.subscribers[position]
    let from = subscriber.turn == turn ? subscriber.from : 0
    guard from < topic.batch.count else { return }
    connection.out.append(contentsOf: topic.batch[from...])
    markDirty(connection)
    topic.subscribers[position].from = topic.batch.count
    topic.subscribers[position].turn = turn
  }

  private func markDirty(_ topic: Topic) {
    if topic.isDirty { return }
    topic.isDirty = true
    dirtyTopics.append(topic)
    if firstPending == 0 { firstPending = Monotonic.nanoseconds }
  }

  private func markDirty(_ connection: Connection) {
    if connection.isDirty { return }
    connection.socket.outlet.blockers.insert(.ownFrames)
    dirtyConnections.append(connection)
    if firstPending == 0 { firstPending = Monotonic.nanoseconds }
  }

  /// Closes a connection after what was sent to it alone. What its topics still hold is not sent.
  package func close(_ connection: Connection, _ code: CloseCode) {
    connection.out.withUnsafeBytes { connection.socket.send(frames: $0) }
    connection.out = []
    connection.socket.close(code)
  }

  // MARK: Flushing

  /// Writes what the turn gathered, or waits a moment for more. At the end of every turn, after the
  /// turn's messages were handed to the log.
  package func endTurn() {
    guard firstPending != 0 else { return }
    if outstanding() > 0, Monotonic.nanoseconds - firstPending < Self.gatherNanoseconds {
      // The commit that is awaited wakes the loop; the timer is for one that does not come.
      if !isTimerArmed {
        isTimerArmed = true
        // Unowned: a hub lives as long as its loop.
        loop.schedule(after: 1) { [unowned self] in isTimerArmed = false }
      }
      return
    }
    flush()
  }

  /// Writes everything now. Connections whose queue is over the limit are closed with 4408.
  package func flush() {
    for topic in dirtyTopics { flush(topic) }
    dirtyTopics.removeAll(keepingCapacity: true)
    for connection in dirtyConnections {
      connection.out.withUnsafeBytes { connection.socket.send(frames: $0) }
      connection.out = []
      connection.socket.outlet.blockers.remove(.ownFrames)
      checkQueue(connection)
    }
    dirtyConnections.removeAll(keepingCapacity: true)
    firstPending = 0
    turn += 1
    closeSlow()
  }

  /// The loop that everything else is for. The common case is one `send` on a plain socket, and
  /// touches the subscriber and its outlet only.
  private func flush(_ topic: Topic) {
    let batch = SharedBytes(topic.batch)
    topic.isDirty = false
    topic.batch.removeAll(keepingCapacity: topic.batch.count <= Self.keptBytes)
    let turn = turn
    batch.bytes.withUnsafeBytes { bytes in
      topic.subscribers.withUnsafeBufferPointer { subscribers in
        for index in subscribers.indices {
          let from = subscribers[index].turn == turn ? subscribers[index].from : 0
          guard from < bytes.count else { continue }
          let rest = UnsafeRawBufferPointer(rebasing: bytes[from...])
          let sent = subscribers[index].outlet._withUnsafeGuaranteedRef { outlet in
            outlet.blockers.isEmpty ? outlet.sendDirect(rest) : 0
          }
          if sent < rest.count {
            sendRest(batch, from: from + sent, to: subscribers[index].connection)
          }
        }
      }
    }
    metrics.writes.add(topic.subscribers.count)
  }

  private func sendRest(_ batch: SharedBytes, from offset: Int, to connection: Connection) {
    if connection.isDirty {
      connection.out.append(contentsOf: batch.bytes[offset...])
    } else {
      connection.socket.send(frames: batch, from: offset)
      checkQueue(connection)
    }
  }

  private func checkQueue(_ connection: Connection) {
    if connection.socket.queuedBytes > sendQueueBytes { slow.append(connection) }
  }

  /// After the walk: closing changes topics.
  private func closeSlow() {
    guard !slow.isEmpty else { return }
    let closing = slow
    slow = []
    for connection in closing {
      metrics.slowReaders.add()
      connection.socket.close(.slowReader)
    }
  }
}

/// What live delivery tells of itself.
package struct LiveMetrics: Sendable {
  package let writes: Counter
  package let slowReaders: Counter
  package let deliveries: Counter
  package let framesIn: Counter
  package let framesOut: Counter

  package init(_ metrics: Metrics) {
    writes = metrics.counter(
      "martlet_topic_writes_total", "Batches of a topic's frames handed to a connection.")
    slowReaders = metrics.counter(
      "martlet_dropped_total", "Connections closed because they read too slowly.",
      labels: ["class": "slow_reader"])
    deliveries = metrics.counter(
      "martlet_deliveries_total", "Messages times the connections they were sent to.")
    framesOut = metrics.counter(
      "martlet_frames_sent_total", "Frames for one connection alone, besides deliveries.")
    framesIn = metrics.counter("martlet_frames_received_total", "WebSocket messages received.")
  }
}
