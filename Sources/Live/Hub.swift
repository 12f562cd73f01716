package import Basics
package import EventLoop
package import Web

/// The WebSockets of one event loop and what is on its way to them. Knows frames, not rooms.
///
/// A frame for a topic is appended once to the topic's batch, whatever the number of subscribers; at
/// the end of the turn, or a moment later where the topic expects more, each subscriber is written the
/// batch, in one `send`. Frames for one connection
/// keep their place between those of a topic where the caller names it. On the loop only.
///
/// Hot path: concrete types, no allocation and no encoding per subscriber (`fanout` benchmark).
package final class Hub {
  package let loop: Loop
  private let metrics: LiveMetrics
  private let sendQueueBytes: Int
  private let gate: DeliveryGate

  private var dirtyTopics: [Topic] = []
  private var dirtyConnections: [Connection] = []
  private var isTimerArmed = false
  private var nextNumber: UInt64 = 0
  private var slow: [Connection] = []
  /// Memory for frames of one connection, to be used again.
  private var spares: [OwnFrames] = []

  /// How long a topic waits at most for more that is on its way, so that one `send` carries all of it:
  /// longer than a commit takes on a busy machine.
  private static let gatherNanoseconds: UInt64 = 10_000_000
  private static let maximumSpares = 64
  /// Buffers that grew beyond this are given back after the turn.
  private static let keptBytes = 256 * 1024

  /// While `gate` is closed nothing is written but answers.
  package init(loop: Loop, gate: DeliveryGate, sendQueueBytes: Int, metrics: LiveMetrics) {
    loop.preconditionOnLoop()
    self.loop = loop
    self.gate = gate
    self.sendQueueBytes = sendQueueBytes
    self.metrics = metrics
  }

  // MARK: Connections and topics

  /// One WebSocket as the hub sees it.
  package final class Connection {
    package let socket: WebSocket
    /// Unique on this loop, never reused.
    package let number: UInt64
    /// Frames of this turn that are for this connection alone, with what of its topics goes before.
    fileprivate var own = OwnFrames()
    /// The topic behind whose frames the last of `own` stands: what is held there holds these too, as
    /// long as a topic may be held.
    fileprivate var follows: Topic?
    /// When the first of `own` came, by `Monotonic.nanoseconds`.
    fileprivate var pendingSince: UInt64 = 0
    fileprivate var isDirty: Bool { socket.outlet.blockers.contains(.ownFrames) }

    fileprivate init(socket: WebSocket, number: UInt64) {
      self.socket = socket
      self.number = number
    }

    fileprivate func isHeld(now: UInt64) -> Bool {
      follows?.isHeld == true && now < pendingSince &+ Hub.gatherNanoseconds
    }
  }

  /// Something that many connections hear.
  package final class Topic {
    fileprivate var batch: [UInt8] = []
    /// Counts batches; a subscriber's offset counts in the batch that it was set in only.
    fileprivate var generation: UInt64 = 1
    fileprivate var isDirty = false
    /// When the first frame of the batch came, by `Monotonic.nanoseconds`.
    fileprivate var pendingSince: UInt64 = 0
    fileprivate var subscribers: [Subscriber] = []
    /// Position in `subscribers` by connection number.
    fileprivate var positions: [UInt64: Int] = [:]
    /// Whether it waits for more, as the last look found.
    fileprivate var isHeld = false
    private let isExpectingMore: () -> Bool

    /// `isExpectingMore` tells whether more is on its way, for which a flush may wait a moment.
    package init(isExpectingMore: @escaping () -> Bool) { self.isExpectingMore = isExpectingMore }

    /// Whether what it has is to wait for more.
    fileprivate func waits(now: UInt64) -> Bool {
      now < pendingSince &+ Hub.gatherNanoseconds && isExpectingMore()
    }

    package var isEmpty: Bool { subscribers.isEmpty }
    package var count: Int { subscribers.count }

    fileprivate struct Subscriber {
      let connection: Connection
      /// The connection's; it lives as long as the connection above.
      let outlet: Unmanaged<Outlet>
      /// Where in the batch of this generation this subscriber's part begins; in others at 0.
      var from: Int
      var generation: UInt64
    }

    /// Where the part of the present batch begins that this subscriber has not been sent.
    fileprivate func offset(of subscriber: Subscriber) -> Int {
      subscriber.generation == generation ? subscriber.from : 0
    }

    /// The subscriber at this position has all of the present batch so far.
    fileprivate func markCaughtUp(_ position: Int) {
      subscribers[position].from = batch.count
      subscribers[position].generation = generation
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
        from: topic.batch.count, generation: topic.generation))
  }

  /// The connection hears what was published until now, and nothing after. Where that is because it may
  /// not hear the topic any more (`isRevoked`), and the gate is closed, it does not hear what waits
  /// either: that may have come after it was revoked.
  package func unsubscribe(
    _ connection: Connection, from topic: Topic, isRevoked: Bool = false
  ) {
    let dropsWaiting = isRevoked && !gate.isOpen
    if dropsWaiting { connection.own.discard(ObjectIdentifier(topic)) }
    guard topic.positions[connection.number] != nil else { return }
    if !dropsWaiting { catchUp(connection, topic) }
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
    var excepted = 0
    for connection in connections where topic.positions[connection.number] != nil {
      send(theirs, to: connection, after: topic)
      excepted += 1
    }
    guard excepted < topic.count else { return }
    topic.batch.append(contentsOf: frame)
    for connection in connections {
      if let position = topic.positions[connection.number] { topic.markCaughtUp(position) }
    }
    markDirty(topic)
  }

  /// A frame to one connection: after everything sent to it alone, and after everything published to
  /// `topic` so far. `owner` is the topic whose content the frame is, where it is any's.
  package func send(
    _ frame: [UInt8], to connection: Connection, after topic: Topic? = nil, of owner: Topic? = nil
  ) {
    guard connection.socket.isOpen else { return }
    if let topic {
      catchUp(connection, topic)
      connection.follows = topic
    }
    metrics.framesOut.add()
    append(frame, of: owner, to: connection)
  }

  /// A frame that says nothing of rooms or of others. It leaves also where the gate is closed, unless
  /// something for this connection waits already: then it stands behind that, as with `send`.
  package func answer(_ frame: [UInt8], to connection: Connection, after topic: Topic? = nil) {
    if gate.isOpen || !connection.own.bytes.isEmpty {
      send(frame, to: connection, after: topic)
    } else if connection.socket.isOpen {
      metrics.framesOut.add()
      frame.withUnsafeBytes { connection.socket.send(frames: $0) }
      checkQueue(connection)
    }
  }

  /// Writes what was sent to this connection alone, now: its socket then tells what must wait.
  package func flush(_ connection: Connection) {
    guard connection.isDirty, !connection.own.bytes.isEmpty, gate.isOpen else { return }
    // It stays among the dirty ones until the end of the turn, with nothing left to write.
    write(connection)
  }

  /// Bytes that wait for the connection's reader, or for the gate.
  package func queuedBytes(of connection: Connection) -> Int {
    connection.socket.queuedBytes + connection.own.bytes.count
  }

  /// Moves what the topic has for the connection so far into the connection's own frames: what is sent to it
  /// next comes behind that.
  package func catchUp(_ connection: Connection, _ topic: Topic) {
    guard topic.isDirty, let position = topic.positions[connection.number] else { return }
    let from = topic.offset(of: topic.subscribers[position])
    guard from < topic.batch.count else { return }
    append(topic.batch[from...], of: topic, to: connection)
    topic.markCaughtUp(position)
  }

  /// `topic` is the one whose content the bytes are, where they are any's.
  private func append(
    _ bytes: some Collection<UInt8>, of topic: Topic?, to connection: Connection
  ) {
    if connection.own.bytes.isEmpty { connection.own = spares.popLast() ?? OwnFrames() }
    connection.own.append(bytes, of: topic.map { ObjectIdentifier($0) })
    markDirty(connection)
  }

  /// Writes what is for the connection alone, and keeps the memory for another.
  private func write(_ connection: Connection) {
    connection.own.bytes.withUnsafeBytes { connection.socket.send(frames: $0) }
    clear(connection)
  }

  private func clear(_ connection: Connection) {
    var own = OwnFrames()
    swap(&own, &connection.own)
    connection.follows = nil
    guard own.isWorthKeeping, spares.count < Self.maximumSpares else { return }
    own.removeAll()
    spares.append(own)
  }

  private func markDirty(_ topic: Topic) {
    if topic.isDirty { return }
    topic.isDirty = true
    topic.pendingSince = Monotonic.nanoseconds
    dirtyTopics.append(topic)
  }

  private func markDirty(_ connection: Connection) {
    if connection.isDirty { return }
    connection.socket.outlet.blockers.insert(.ownFrames)
    connection.pendingSince = Monotonic.nanoseconds
    dirtyConnections.append(connection)
  }

  /// Closes a connection after what was sent to it alone, unless its access was revoked or the gate is
  /// closed. What its topics still hold is not sent.
  package func close(_ connection: Connection, _ code: CloseCode) {
    if code != .revoked, gate.isOpen { write(connection) } else { clear(connection) }
    connection.socket.close(code)
  }

  // MARK: Flushing

  /// Writes what the turn gathered. A topic that expects more waits for it a moment, and with it what
  /// stands behind its frames. At the end of every turn, after the turn's messages were handed to the
  /// log.
  package func endTurn() {
    // After all walks: closing changes topics.
    defer { closeSlow() }
    guard !dirtyTopics.isEmpty || !dirtyConnections.isEmpty, gate.isOpen else { return }
    flush(now: Monotonic.nanoseconds)
    guard !dirtyTopics.isEmpty, !isTimerArmed else { return }
    // The commit that is awaited wakes the loop; the timer is for one that does not come.
    isTimerArmed = true
    // Unowned: a hub lives as long as its loop.
    loop.schedule(after: 1) { [unowned self] in isTimerArmed = false }
  }

  /// Where the gate closes on the way, the rest waits where it is.
  private func flush(now: UInt64) {
    let topics = dirtyTopics
    dirtyTopics = []
    var isStopped = false
    for topic in topics {
      topic.isHeld = topic.waits(now: now)
      if !topic.isHeld, !isStopped { isStopped = !flush(topic) }
      if topic.isDirty { dirtyTopics.append(topic) }
    }
    let connections = dirtyConnections
    dirtyConnections = []
    for connection in connections {
      guard !isStopped, gate.isOpen else {
        isStopped = true
        dirtyConnections.append(connection)
        continue
      }
      if connection.isHeld(now: now) {
        dirtyConnections.append(connection)
        continue
      }
      write(connection)
      connection.socket.outlet.blockers.remove(.ownFrames)
      checkQueue(connection)
    }
  }

  /// The loop that everything else is for. The common case is one `send` on a plain socket, and
  /// touches the subscriber and its outlet only. False where the gate closed on the way.
  private func flush(_ topic: Topic) -> Bool {
    let batch = SharedBytes(topic.batch)
    let generation = topic.generation
    var done = topic.subscribers.count
    batch.bytes.withUnsafeBytes { bytes in
      topic.subscribers.withUnsafeBufferPointer { subscribers in
        for index in subscribers.indices {
          // Before each write: the process may have been stopped since the last one.
          if !gate.isOpen {
            done = index
            return
          }
          let from = subscribers[index].generation == generation ? subscribers[index].from : 0
          guard from < bytes.count else { continue }
          let rest = UnsafeRawBufferPointer(rebasing: bytes[from...])
          let sent = subscribers[index].outlet._withUnsafeGuaranteedRef { outlet in
            outlet.blockers.isEmpty ? outlet.sendDirect(rest) : 0
          }
          if sent < rest.count {
            sendRest(batch, from: from + sent, of: topic, to: subscribers[index].connection)
          }
        }
      }
    }
    metrics.writes.add(done)
    guard done == topic.subscribers.count else {
      for index in 0..<done { topic.markCaughtUp(index) }
      return false
    }
    topic.isDirty = false
    topic.generation += 1
    topic.batch.removeAll(keepingCapacity: topic.batch.count <= Self.keptBytes)
    return true
  }

  private func sendRest(
    _ batch: SharedBytes, from offset: Int, of topic: Topic, to connection: Connection
  ) {
    if connection.isDirty {
      append(batch.bytes[offset...], of: topic, to: connection)
    } else {
      connection.socket.send(frames: batch, from: offset)
      checkQueue(connection)
    }
  }

  private func checkQueue(_ connection: Connection) {
    if connection.socket.queuedBytes > sendQueueBytes { slow.append(connection) }
  }

  /// Connections whose queue is over the limit are closed with 4408.
  private func closeSlow() {
    guard !slow.isEmpty else { return }
    let closing = slow
    slow = []
    for connection in closing where connection.socket.isOpen {
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
