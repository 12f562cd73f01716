internal import Basics
package import Web

/// The connections of one event loop and the frames on their way to them. The hub knows frames, not rooms.
///
/// A frame for a topic is appended once to the topic's batch, whatever the number of subscribers. At the end of the
/// turn, or a moment later if the topic expects more frames, the batch is written to each subscriber with one `send`.
/// A frame for one connection keeps its position among a topic's frames if the caller names the topic. Used on the
/// loop only.
///
/// Hot path: no allocation and no encoding per subscriber (benchmark `fanout`).
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
  /// Connections that had too much queued when something was added.
  private var slow: [Connection] = []
  /// Buffers for frames of one connection, for reuse.
  private var spares: [OwnFrames] = []
  /// Buffers for batches, for reuse.
  private var batchMemory = BatchMemory()

  /// The longest time that a topic waits for frames that are on their way, so that one `send` carries all of them. It
  /// is longer than a commit takes on a busy machine.
  static let gatherNanoseconds: UInt64 = 10_000_000
  /// The time that one turn may spend on writing to large audiences. It is measured in the thread's own CPU time,
  /// because otherwise a busy machine would cut every flush short. The rest is written after the sockets that are ready
  /// have been served.
  static let flushNanoseconds: UInt64 = 3_000_000
  /// The most writes of topics in one turn. A lower limit makes turns shorter. Then commits contain fewer messages, and
  /// each message costs more.
  static let writesPerTurn = 2000
  /// The most connections per turn to which the hub writes frames of their own.
  static let ownWritesPerTurn = 1000
  /// The number of subscribers above which an audience is large.
  var largeAudience = 1000
  /// How many connections are written to before the clock is read again.
  static let writesPerLook = 32
  /// The bytes waiting for a connection's reader beyond which droppable frames are left out.
  package static let droppableQueueBytes = 512 * 1024
  private static let maximumSpares = 64

  /// While `gate` is closed, only answers are written. Connections with more than `sendQueueBytes` queued are closed.
  /// `wake` must call `didWake` on the loop after this many milliseconds, so that the loop turns by then. `clock` is
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

  /// Adds a connection. The hub keeps it until `remove`.
  package func makeConnection(_ socket: any FrameSink) -> Connection {
    // Full numbers are never reused, but their lower halves wrap around.
    repeat { nextNumber += 1 } while connections[UInt32(truncatingIfNeeded: nextNumber)] != nil
    let connection = Connection(socket: socket, number: nextNumber)
    connections[connection.key] = connection
    return connection
  }

  /// Removes a connection that is closed and in no topic any more.
  package func remove(_ connection: Connection) {
    assert(connection.topicCount == 0, "a closed connection is still in topics")
    // A topic that still contains it would write to released memory, so the connection is then kept.
    if connection.topicCount == 0 { connections[connection.key] = nil }
  }

  /// Adds the connection to the topic. It receives nothing that was published before, except the newest state
  /// (`latest`) if no flush has taken that yet.
  package func subscribe(_ connection: Connection, to topic: Topic) {
    if topic.insert(connection.key, connection.socket.outlet) { connection.topicCount += 1 }
  }

  /// Removes the connection from the topic. It still receives what was published until now, except a newest state
  /// (`latest`) that waits for its reader or for a flush. But if it lost access (`isRevoked`) and the gate is closed,
  /// it receives none of that: what waits may have been published after it lost access.
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

  /// Removes all subscribers from the topic, and drops what it still holds for them.
  package func dissolve(_ topic: Topic) {
    for key in topic.removeAll() {
      guard let connection = connections[key] else { continue }
      connection.dropLatest(of: topic)
      connection.topicCount -= 1
    }
  }

  // MARK: Sending

  /// Sends a frame to all subscribers of a topic.
  package func publish(_ frame: [UInt8], to topic: Topic, _ grade: Grade = .durable) {
    guard !topic.isEmpty else { return }
    topic.append(frame, grade) { batchMemory.take() }
    markDirty(topic)
  }

  /// A frame that some connections get in place of the one for all. No connection is in two variants of a frame.
  package struct Variant {
    let connections: [Connection]
    let frame: [UInt8]

    package init(_ frame: [UInt8], for connections: [Connection]) {
      self.connections = connections
      self.frame = frame
    }
  }

  /// The same for a durable frame, but the subscribers among the connections of variants get those instead.
  package func publish(_ frame: [UInt8], to topic: Topic, variants: [Variant]) {
    var excepted = 0
    for variant in variants {
      for connection in variant.connections where topic.position(of: connection.key) != nil {
        send(variant.frame, to: connection, after: topic, of: topic)
        excepted += 1
      }
    }
    guard excepted < topic.count else { return }
    topic.append(frame, .durable) { batchMemory.take() }
    for variant in variants {
      for connection in variant.connections {
        if let position = topic.position(of: connection.key) { topic.markCaughtUp(position) }
      }
    }
    markDirty(topic)
  }

  /// Sends a droppable frame to all subscribers of a topic but these.
  package func publishDroppable(
    _ frame: [UInt8], to topic: Topic, except connections: [Connection]
  ) {
    let excepted = connections.filter { topic.position(of: $0.key) != nil }
    guard excepted.count < topic.count else { return }
    // What the topic holds for them comes first, so that they miss this frame alone.
    for connection in excepted { catchUp(connection, topic) }
    topic.append(frame, .droppable) { batchMemory.take() }
    for connection in excepted {
      if let position = topic.position(of: connection.key) { topic.markCaughtUp(position) }
    }
    markDirty(topic)
  }

  /// Sends a frame to one connection, after everything sent to it alone and everything published to `topic` so far.
  /// `owner` is the topic whose content the frame carries, if any.
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

  /// Sends a frame that tells nothing about rooms or other people. It is sent even while the gate is closed, unless the
  /// connection is corked or has frames of its own waiting. Then it waits behind those, as with `send`.
  package func answer(_ frame: [UInt8], to connection: Connection, after topic: Topic? = nil) {
    if gate.isOpen || connection.isCorked || !connection.own.bytes.isEmpty {
      send(frame, to: connection, after: topic)
    } else if connection.socket.isOpen {
      metrics.framesOut.add()
      frame.withUnsafeBytes { connection.socket.send(frames: $0) }
      checkQueue(connection)
    }
  }

  /// Sends a frame to one connection, or drops it if more than `droppableQueueBytes` wait for the reader already.
  /// Returns whether it was sent.
  @discardableResult
  package func sendDroppable(_ frame: [UInt8], to connection: Connection) -> Bool {
    guard queuedBytes(of: connection) <= Self.droppableQueueBytes else {
      metrics.droppedFrames.add()
      return false
    }
    send(frame, to: connection)
    return true
  }

  /// Holds back all frames to the connection, including those that wait in the hub already, until `uncork`.
  package func cork(_ connection: Connection) {
    connection.isCorked = true
    // With this, frames of its topics are added to its own frames.
    connection.socket.outlet.blockers.insert(.ownFrames)
  }

  /// Sends this frame, then everything that was held back.
  package func uncork(_ connection: Connection, first frame: [UInt8]) {
    guard connection.isCorked, connection.socket.isOpen else { return }
    connection.isCorked = false
    metrics.framesOut.add()
    connection.own.prepend(frame)
    if connection.own.bytes.count > sendQueueBytes { slow.append(connection) }
    connection.pendingSince = nil
    dirtyConnections.append(connection)
  }

  /// Writes now what was sent to this connection alone, unless it is corked or the gate is closed. Afterwards the
  /// socket's `queuedBytes` tells how much the kernel has not accepted.
  package func flush(_ connection: Connection) {
    guard connection.isDirty, !connection.own.bytes.isEmpty, !connection.isCorked, gate.isOpen
    else { return }
    // The connection stays in the list of dirty ones until the end of the turn, with nothing left to write.
    write(connection)
  }

  /// Sends the frames of grade `latest` that waited for the reader. Called when the kernel has accepted everything that
  /// was queued for the connection.
  package func drained(_ connection: Connection) {
    guard !connection.latest.isEmpty else { return }
    let frames = connection.latest
    connection.latest = []
    for (_, frame) in frames { send(frame, to: connection) }
  }

  /// The bytes that wait for the connection's reader, for the gate or for `uncork`.
  package func queuedBytes(of connection: Connection) -> Int {
    connection.socket.queuedBytes + connection.own.bytes.count
  }

  /// Moves what the topic holds for the connection to the connection's own frames. What is sent to it next comes
  /// after that.
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

  /// `topic` is the one whose content the bytes are, if any.
  private func append(
    _ bytes: some Collection<UInt8>, of topic: Topic?, to connection: Connection
  ) {
    if connection.own.bytes.isEmpty { connection.own = spares.popLast() ?? OwnFrames() }
    let before = connection.own.bytes.count
    connection.own.append(bytes, of: topic.map { ObjectIdentifier($0) })
    markDirty(connection)
    // What is held back counts too, since it may wait long for the gate or for `uncork`.
    if before <= sendQueueBytes, connection.own.bytes.count > sendQueueBytes {
      slow.append(connection)
    }
  }

  /// Writes the frames for this connection alone, and keeps the buffer for another connection.
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

  /// Closes a connection after what was sent to it alone; at once and without that if its access was revoked, the gate
  /// is closed or the connection is corked. What its topics still hold is not sent.
  package func close(_ connection: Connection, _ code: CloseCode) {
    let isSent = code != .revoked && gate.isOpen && !connection.isCorked
    if isSent { write(connection) } else { clear(connection) }
    connection.socket.close(code)
  }

  // MARK: Flushing

  /// Writes what the turn gathered. A topic that expects more frames waits a moment for them, and so does everything
  /// that comes behind its frames. Called at the end of every turn, after the turn's messages were submitted to the
  /// log.
  package func endTurn() {
    // Only after all iterations, because closing a connection changes topics.
    defer { closeSlow() }
    guard !dirtyTopics.isEmpty || !dirtyConnections.isEmpty, gate.isOpen else { return }
    var pass = FlushPass(start: threadClock(), maximumWrites: Self.writesPerTurn)
    flush(now: clock(), &pass)
    guard !dirtyTopics.isEmpty || !dirtyConnections.isEmpty, !isWakeSet, gate.isOpen else {
      return
    }
    // The awaited commit wakes the loop. The timer is for a commit that does not come.
    let isHeld = dirtyTopics.allSatisfy(\.isHeld) && !pass.isOutOfTime
    isWakeSet = true
    wake(isHeld ? 1 : 0)
  }

  /// The loop turned because of `wake`.
  package func didWake() { isWakeSet = false }

  /// What is not written in this pass stays queued.
  private func flush(now: UInt64, _ pass: inout FlushPass) {
    let topics = dirtyTopics
    dirtyTopics = []
    // Topics that were written and have more go behind those that still wait.
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
    // Acks and answers do not wait for large audiences.
    var own = FlushPass(start: pass.start, maximumWrites: Self.ownWritesPerTurn)
    defer { if own.isOutOfTime { pass.endEarly() } }
    // Corked connections are added again when they are uncorked.
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

  /// The innermost loop, which everything else is designed for. The common case is one `send` on a plain socket, and
  /// touches only the row and its outlet.
  ///
  /// Returns whether the flush has reached every subscriber, so that the batch is done.
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

  /// Sends, through the connection's queue and behind its own frames, what was not sent directly: the kernel did not
  /// accept it, or the outlet is blocked. `hasBegun` means that the kernel accepted a part of it.
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

  /// Returns the parts of `range` to send now to a connection with this many bytes queued. If more than
  /// `droppableQueueBytes` are queued, droppable frames are left out. If any are queued, the newest state is kept until
  /// the reader has taken them, because an even newer one may replace it until then.
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

  /// Closes connections whose queue is over the limit, with code 4408.
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
