internal import Basics
package import Web

/// The connections of one event loop and what is on its way to them. Knows frames, not rooms.
///
/// A frame for a topic is appended once to the topic's batch, whatever the number of subscribers; at
/// the end of the turn, or a moment later where the topic expects more, each subscriber is written the
/// batch, in one `send`. Frames for one connection keep their place between those of a topic where the
/// caller names it. On the loop only.
///
/// Hot path: no allocation and no encoding per subscriber (`fanout` benchmark).
package final class Hub {
  private let metrics: LiveMetrics
  private let sendQueueBytes: Int
  private let gate: DeliveryGate
  private let clock: () -> UInt64
  private let threadClock: () -> UInt64
  private let wake: (_ milliseconds: Int) -> Void

  private var connections: [UInt32: Connection] = [:]
  private var dirtyTopics: [Topic] = []
  private var dirtyConnections: [Connection] = []
  private var isWakeSet = false
  private var nextNumber: UInt64 = 0
  /// Those that had too much waiting when something was added.
  private var slow: [Connection] = []
  /// Memory for frames of one connection, to be used again.
  private var spares: [OwnFrames] = []
  /// Memory for batches, to be used again.
  private var batchMemory = BatchMemory()

  /// How long a topic waits at most for more that is on its way, so that one `send` carries all of it:
  /// longer than a commit takes on a busy machine.
  static let gatherNanoseconds: UInt64 = 10_000_000
  /// What one turn may spend on writing to a large audience, of the thread's time: not while others have the
  /// processor, or a busy machine would cut every flush. The rest has its turn after sockets that are ready.
  static let flushNanoseconds: UInt64 = 3_000_000
  /// So many are written in one turn at most, whoever they hear. Fewer cost more: what a turn gathers becomes
  /// one commit.
  static let writesPerTurn = 2000
  /// And so many connections are written what is for them alone.
  static let ownWritesPerTurn = 1000
  /// Subscribers of a topic beyond which its audience is large.
  var largeAudience = 1000
  /// So many are written between two looks at the clock.
  static let writesPerLook = 32
  /// Bytes that wait for a connection's reader beyond which droppable frames are left out.
  package static let droppableQueueBytes = 512 * 1024
  private static let maximumSpares = 64

  /// While `gate` is closed nothing is written but answers. Connections with more than `sendQueueBytes` to
  /// read are closed. `wake` makes the loop turn again after so many milliseconds at most; `clock` is
  /// `Monotonic.nanoseconds`, `threadClock` is `ThreadClock.nanoseconds`.
  package init(
    gate: DeliveryGate, sendQueueBytes: Int, metrics: LiveMetrics,
    clock: @escaping () -> UInt64 = { Monotonic.nanoseconds },
    threadClock: @escaping () -> UInt64 = { ThreadClock.nanoseconds },
    wake: @escaping (_ milliseconds: Int) -> Void
  ) {
    self.gate = gate
    self.sendQueueBytes = sendQueueBytes
    self.metrics = metrics
    self.clock = clock
    self.threadClock = threadClock
    self.wake = wake
  }

  // MARK: Connections and topics

  /// From here on the hub keeps the connection, until `remove`.
  package func makeConnection(_ socket: any FrameSink) -> Connection {
    // Numbers are not reused, but their lower halves come round.
    repeat { nextNumber += 1 } while connections[UInt32(truncatingIfNeeded: nextNumber)] != nil
    let connection = Connection(socket: socket, number: nextNumber)
    connections[connection.key] = connection
    return connection
  }

  /// The connection is closed, and in no topic any more.
  package func remove(_ connection: Connection) {
    assert(connection.topicCount == 0, "a closed connection is still in topics")
    // Topics that still knew it would write to memory that is gone.
    if connection.topicCount == 0 { connections[connection.key] = nil }
  }

  /// From here on the connection hears the topic; nothing that was published before.
  package func subscribe(_ connection: Connection, to topic: Topic) {
    if topic.insert(connection.key, connection.socket.outlet) { connection.topicCount += 1 }
  }

  /// The connection hears what was published until now, and nothing after. Where that is because it may
  /// not hear the topic any more (`isRevoked`), and the gate is closed, it does not hear what waits
  /// either: that may have come after it was revoked.
  package func unsubscribe(
    _ connection: Connection, from topic: Topic, isRevoked: Bool = false
  ) {
    let dropsWaiting = isRevoked && !gate.isOpen
    if dropsWaiting { connection.own.discard(ObjectIdentifier(topic)) }
    connection.dropLatest(of: topic)
    guard let position = topic.position(of: connection.key) else { return }
    if !dropsWaiting { catchUp(connection, topic, position) }
    topic.remove(at: position)
    connection.topicCount -= 1
  }

  /// Nobody hears the topic any more, nor what it still has for anybody.
  package func dissolve(_ topic: Topic) {
    for key in topic.removeAll() {
      guard let connection = connections[key] else { continue }
      connection.dropLatest(of: topic)
      connection.topicCount -= 1
    }
  }

  // MARK: Sending

  /// A frame to all subscribers of a topic.
  package func publish(_ frame: [UInt8], to topic: Topic, _ grade: Grade = .durable) {
    guard !topic.isEmpty else { return }
    topic.append(frame, grade) { batchMemory.take() }
    markDirty(topic)
  }

  /// As `publish`, but these connections get a frame of their own in its place.
  package func publish(
    _ frame: [UInt8], to topic: Topic, except connections: [Connection], theirs: [UInt8]
  ) {
    var excepted = 0
    for connection in connections where topic.position(of: connection.key) != nil {
      send(theirs, to: connection, after: topic, of: topic)
      excepted += 1
    }
    guard excepted < topic.count else { return }
    topic.append(frame, .durable) { batchMemory.take() }
    for connection in connections {
      if let position = topic.position(of: connection.key) { topic.markCaughtUp(position) }
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
    if gate.isOpen || connection.isCorked || !connection.own.bytes.isEmpty {
      send(frame, to: connection, after: topic)
    } else if connection.socket.isOpen {
      metrics.framesOut.add()
      frame.withUnsafeBytes { connection.socket.send(frames: $0) }
      checkQueue(connection)
    }
  }

  /// A frame to one connection that is left out where its reader has much to read already.
  package func sendDroppable(_ frame: [UInt8], to connection: Connection) {
    if queuedBytes(of: connection) > Self.droppableQueueBytes {
      metrics.droppedFrames.add()
    } else {
      send(frame, to: connection)
    }
  }

  /// What is sent to the connection from here on waits, until `uncork`.
  package func cork(_ connection: Connection) {
    connection.isCorked = true
    // What its topics have goes to its own frames.
    connection.socket.outlet.blockers.insert(.ownFrames)
  }

  /// What waited may go, behind this frame.
  package func uncork(_ connection: Connection, first frame: [UInt8]) {
    guard connection.isCorked, connection.socket.isOpen else { return }
    connection.isCorked = false
    metrics.framesOut.add()
    connection.own.prepend(frame)
    if connection.own.bytes.count > sendQueueBytes { slow.append(connection) }
    connection.pendingSince = nil
    dirtyConnections.append(connection)
  }

  /// Writes what was sent to this connection alone, now: its socket then tells what must wait.
  package func flush(_ connection: Connection) {
    guard connection.isDirty, !connection.own.bytes.isEmpty, !connection.isCorked, gate.isOpen
    else { return }
    // It stays among the dirty ones until the end of the turn, with nothing left to write.
    write(connection)
  }

  /// The connection's reader has taken all that was sent: what waited for that goes now.
  package func drained(_ connection: Connection) {
    guard !connection.latest.isEmpty else { return }
    let frames = connection.latest
    connection.latest = []
    for (_, frame) in frames { send(frame, to: connection) }
  }

  /// Bytes that wait for the connection's reader, or for the gate.
  package func queuedBytes(of connection: Connection) -> Int {
    connection.socket.queuedBytes + connection.own.bytes.count
  }

  /// Moves what the topic has for the connection so far into the connection's own frames: what is sent to it
  /// next comes behind that.
  package func catchUp(_ connection: Connection, _ topic: Topic) {
    guard topic.isDirty, let position = topic.position(of: connection.key) else { return }
    catchUp(connection, topic, position)
  }

  private func catchUp(_ connection: Connection, _ topic: Topic, _ position: Int) {
    guard topic.isDirty else { return }
    if topic.sending?.hasLatest == true { connection.dropLatest(of: topic) }
    topic.withRest(of: position) { append($0, of: topic, to: connection) }
    topic.markCaughtUp(position)
  }

  /// `topic` is the one whose content the bytes are, where they are any's.
  private func append(
    _ bytes: some Collection<UInt8>, of topic: Topic?, to connection: Connection
  ) {
    if connection.own.bytes.isEmpty { connection.own = spares.popLast() ?? OwnFrames() }
    let before = connection.own.bytes.count
    connection.own.append(bytes, of: topic.map { ObjectIdentifier($0) })
    markDirty(connection)
    // What is held back counts as well: it may wait for the gate, or for `uncork`.
    if before <= sendQueueBytes, connection.own.bytes.count > sendQueueBytes {
      slow.append(connection)
    }
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
    dirtyTopics.append(topic)
  }

  private func markDirty(_ connection: Connection) {
    if connection.isDirty { return }
    connection.socket.outlet.blockers.insert(.ownFrames)
    connection.pendingSince = nil
    dirtyConnections.append(connection)
  }

  /// Closes a connection after what was sent to it alone, unless its access was revoked or the gate is
  /// closed. What its topics still hold is not sent.
  package func close(_ connection: Connection, _ code: CloseCode) {
    let isSent = code != .revoked && gate.isOpen && !connection.isCorked
    if isSent { write(connection) } else { clear(connection) }
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
    var pass = FlushPass(start: threadClock(), maximumWrites: Self.writesPerTurn)
    flush(now: clock(), &pass)
    guard !dirtyTopics.isEmpty || !dirtyConnections.isEmpty, !isWakeSet, gate.isOpen else {
      return
    }
    // A commit that is awaited wakes the loop; the timer is for one that does not come.
    let isHeld = dirtyTopics.allSatisfy(\.isHeld) && !pass.isOutOfTime
    isWakeSet = true
    wake(isHeld ? 1 : 0)
  }

  /// The loop turns because of `wake`.
  package func didWake() { isWakeSet = false }

  /// What is not written in this pass waits where it is.
  private func flush(now: UInt64, _ pass: inout FlushPass) {
    let topics = dirtyTopics
    dirtyTopics = []
    // Who was written and has more stands behind those who wait.
    var again: [Topic] = []
    for topic in topics {
      topic.isHeld = topic.waits(now: now, longest: Self.gatherNanoseconds)
      let wasWritten = !topic.isHeld && flush(topic, &pass)
      if !topic.hasFrames {
        topic.isDirty = false
      } else if wasWritten {
        again.append(topic)
      } else {
        dirtyTopics.append(topic)
      }
    }
    dirtyTopics += again
    let connections = dirtyConnections
    dirtyConnections = []
    // Acks and answers wait for no audience.
    var own = FlushPass(start: pass.start, maximumWrites: Self.ownWritesPerTurn)
    defer { if own.isOutOfTime { pass.endEarly() } }
    // Corked ones come again when they are uncorked.
    for connection in connections where !connection.isCorked {
      if connection.isHeld(now: now, longest: Self.gatherNanoseconds)
        || !own.mayWrite(gate, isLarge: false, threadClock)
      {
        dirtyConnections.append(connection)
        continue
      }
      write(connection)
      connection.socket.outlet.blockers.remove(.ownFrames)
      checkQueue(connection)
    }
  }

  /// The loop that everything else is for. The common case is one `send` on a plain socket, and
  /// touches the row and its outlet only.
  ///
  /// Returns whether everyone was written what there was.
  private func flush(_ topic: Topic, _ pass: inout FlushPass) -> Bool {
    guard !pass.isOver, topic.hasFrames else { return false }
    topic.startSending()
    var writes = 0
    let isLarge = topic.count > largeAudience
    topic.advance { row, bytes, from in
      guard pass.mayWrite(gate, isLarge: isLarge, threadClock) else { return false }
      writes += 1
      let rest = UnsafeRawBufferPointer(rebasing: bytes[from...])
      let sent = row.outlet._withUnsafeGuaranteedRef { outlet in
        outlet.blockers.isEmpty ? outlet.sendDirect(rest) : 0
      }
      if sent < rest.count {
        sendRest(
          of: topic, from: from + sent, through: bytes.count, hasBegun: sent > 0, to: row)
      }
      return true
    }
    metrics.writes.add(writes)
    guard topic.isSent else { return false }
    if let memory = topic.finishSending() { batchMemory.recycle(memory) }
    return true
  }

  /// Sends what the kernel did not take at once: by the connection's queue, behind its own frames. `hasBegun` where it
  /// took a part.
  private func sendRest(
    of topic: Topic, from offset: Int, through end: Int, hasBegun: Bool, to row: Topic.Row
  ) {
    guard let connection = connections[row.key], let sending = topic.sending else { return }
    if sending.hasLatest { connection.dropLatest(of: topic) }
    let queued = connection.socket.queuedBytes
    for range in parts(of: topic, sending, offset..<end, for: connection, queued) {
      if connection.isDirty {
        append(sending.bytes[range], of: topic, to: connection)
      } else if let shared = topic.sharedSending() {
        connection.socket.send(
          frames: shared, in: range, hasBegun: hasBegun && range.lowerBound == offset)
      }
    }
    checkQueue(connection)
  }

  /// What a reader that has bytes to read already is sent of a batch: no droppable frames where those are
  /// many; and the newest state only when it is ready for it, since until then a newer one may take its
  /// place.
  private func parts(
    of topic: Topic, _ sending: Topic.Sending, _ range: Range<Int>, for connection: Connection,
    _ queued: Int
  ) -> [Range<Int>] {
    var range = range
    if queued > 0, sending.hasLatest, range.contains(sending.latestStart) {
      connection.keepLatest(Array(sending.bytes[sending.latestStart...]), of: topic)
      range = range.lowerBound..<sending.latestStart
    }
    guard queued > Self.droppableQueueBytes else { return range.isEmpty ? [] : [range] }
    let (ranges, dropped) = sending.essential(range)
    metrics.droppedFrames.add(dropped)
    return ranges
  }

  private func checkQueue(_ connection: Connection) {
    if connection.socket.queuedBytes > sendQueueBytes { slow.append(connection) }
  }

  /// Connections whose queue is over the limit are closed with 4408.
  private func closeSlow() {
    guard !slow.isEmpty else { return }
    let closing = slow
    slow = []
    for connection in closing
    where connection.socket.isOpen && queuedBytes(of: connection) > sendQueueBytes {
      metrics.slowReaders.add()
      connection.socket.close(.slowReader)
    }
  }
}
