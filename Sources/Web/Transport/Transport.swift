internal import Basics
internal import EventLoop
internal import TLS

/// The protocol that a connection speaks on its transport: HTTP/1.1 first, WebSocket after an upgrade. Called on the
/// transport's loop only.
protocol TransportHandler: AnyObject {
  /// Receives bytes from the peer. They are valid during the call only, and may be changed in place (unmasking).
  func received(_ bytes: UnsafeMutableRawBufferPointer)
  /// Called once, when the peer has shut down its sending side. It may still read.
  func inputEnded()
  /// Called when everything that was queued has been passed to the kernel.
  func drained()
  /// Whether queued bytes may be sent now. If this is false, the handler must call `resumeWriting` when it becomes
  /// true.
  var mayWrite: Bool { get }
  /// Called once, when the connection has ended, no matter which side ended it.
  func closed()
  /// Called when `tickDue` has come, or earlier.
  func tick(now: Int64)
  /// The time of `Monotonic.milliseconds` at which the handler needs a tick. If it becomes earlier, the handler must
  /// call `Transport.tick(by:)`.
  var tickDue: Int64 { get }
}

/// One accepted socket, with TLS if configured. Used on its loop only.
///
/// `write` passes bytes to the kernel at once if possible. Bytes that the kernel does not accept are queued here.
/// Bytes that were passed by reference (`SharedBytes`) are queued by reference. `queuedBytes` counts the queue; the
/// caller has to bound it. Queued bytes are encrypted only when they are sent, so that they can still be discarded.
///
/// Hot path: a plain socket is written with `send` directly (benchmark `fanout`).
final class Transport {
  let loop: Loop
  let peer: IPAddress
  /// The protocol. The transport retains it, and releases it when the connection is closed. Protocols retain the
  /// transport too, so that release breaks the reference cycle.
  var handler: (any TransportHandler)?
  private(set) var isOpen = true
  /// The place that the connection occupies. `WebLoop.forget` returns it when the transport is closed.
  var permit: ConnectionAdmission.Permit?
  /// The slot of the loop's timer wheel that this transport waits in.
  var wheelDue = TimerWheel<ObjectIdentifier>.Due.none

  /// The shortcut to the socket for fan-out, which sends the same bytes to many connections.
  let outlet: Outlet

  // Unowned: the loop closes its connections before it is released.
  private unowned let owner: WebLoop
  private let socket: ConnectedSocket
  private var watch: DescriptorWatch?
  private var watched = DescriptorWatch.Readiness.readable
  private let tls: TLSSession?
  private var queue = OutputQueue()
  private var state = State.open
  /// Whether the queue contains the bytes that were passed to `hold`, and nothing after them. They are kept in the
  /// queue, so that `write` only has to check whether the queue is empty.
  private var isHolding = false
  private var isInCallback = false
  private var isReading = true
  /// The most bytes that are read in one turn. It is small until the protocol raises it.
  private var readAtMost = BufferLease.freeBytes
  /// Whether the peer has shut down its sending side.
  private(set) var hasInputEnded = false
  /// Whether the protocol has called `resumeWriting` since the socket was last writable.
  private var isWritingResumed = false
  private var progress = OutputProgress()
  /// Decides when a closing connection is cut; nil while it is open.
  private var end: ConnectionEnd?

  private enum State {
    case open
    /// `close` was called. This side is shut down when the queue is empty.
    case flushing
    /// This side is shut down. Input is read and dropped until the peer closes too. If the socket were closed with
    /// unread input, the kernel would send a reset, which would destroy the last bytes sent.
    case lingering
    /// The connection is broken or aborted, and is closed at the next opportunity.
    case dead
  }

  /// How often the progress of a peer with queued bytes is checked.
  private static let progressMilliseconds: Int64 = 1_000
  /// The largest body that is copied behind its head. Up to this size a copy costs less than passing two pieces to the
  /// kernel.
  private static let copiedBytes = 16 * 1024
  /// The most bytes of a file that are sent in one turn.
  private static let fileAtOnceBytes = 1024 * 1024
  private static let cloggedBytes = 256 * 1024
  /// The most plain bytes that TLS encrypts for one `send`.
  private static let encryptedAtOnceBytes = 64 * 1024

  /// Takes ownership of the descriptor, which must be non-blocking. Throws `SystemError` if the kernel cannot watch
  /// it, after closing it.
  init(owner: WebLoop, peer: IPAddress, descriptor: Int32, tls: TLSSession?) throws {
    self.owner = owner
    loop = owner.loop
    self.peer = peer
    socket = ConnectedSocket(descriptor: descriptor)
    self.tls = tls
    outlet = Outlet(descriptor: descriptor, isSecure: tls != nil)
    do {
      // Unowned: the transport owns the watch, and closes it.
      watch = try DescriptorWatch(loop: loop, descriptor: descriptor, watching: watched) {
        [unowned self] in becameReady($0)
      }
    } catch {
      socket.close()
      throw error
    }
  }

  var isSecure: Bool { tls != nil }
  /// Whether the connection is neither broken nor aborted. It may already be closing.
  var isAlive: Bool { state != .dead }
  /// Whether `write` still has an effect. False once the connection is closing, aborted or broken.
  var canWrite: Bool { state == .open }

  /// The number of bytes in memory that `write` or `hold` has accepted and the kernel has not. The bytes of files are
  /// not counted.
  var queuedBytes: Int { queue.byteCount }

  // MARK: Writing

  /// Sends bytes after everything that was sent before. Without TLS, copies only the bytes that the kernel does not
  /// accept.
  @inline(__always)
  func write(_ bytes: UnsafeRawBufferPointer) {
    guard !bytes.isEmpty, state == .open else { return }
    if queue.isEmpty {
      let sent = sendNow(bytes)
      guard sent < bytes.count else { return }
      enqueue([UInt8](UnsafeRawBufferPointer(rebasing: bytes[sent...])), hasBegun: sent > 0)
    } else if isHolding, let held = takeHeld() {
      write(held + bytes)
    } else {
      enqueue([UInt8](bytes), hasBegun: false)
    }
  }

  // MARK: Holding

  /// Holds back bytes until the next write or the end of the turn, whichever is first. A write of bytes that are
  /// passed by value sends both with one call.
  func hold(_ bytes: [UInt8]) {
    guard queue.isEmpty, state == .open, !bytes.isEmpty else {
      write(bytes)
      return
    }
    isHolding = true
    outlet.blockers.insert(.queued)
    changeQueue { queue in
      queue.append(
        OutputQueue.Chunk(
          content: .bytes(SharedBytes(bytes)), range: 0..<bytes.count, hasBegun: true))
    }
    owner.holds(self)
  }

  /// Sends the held bytes, if any. Called at the end of the turn, and before a write that cannot be combined with
  /// them.
  func writeHeld() {
    if let held = takeHeld() { write(held) }
  }

  /// Removes the held bytes from the queue and returns them. Returns nil if nothing is held, or if the held bytes must
  /// be sent through the queue.
  private func takeHeld() -> [UInt8]? {
    guard isHolding else { return nil }
    isHolding = false
    guard state == .open, let chunk = queue.first, case .bytes(let held) = chunk.content else {
      // TLS has output of its own in front of the held bytes, so all of it is sent through the queue.
      updateWatch()
      return nil
    }
    changeQueue { $0.removeFirst(chunk.range.count) }
    if queue.isEmpty { outlet.blockers.remove(.queued) }
    return Array(held.bytes[chunk.range])
  }

  /// Sends shared bytes after everything that was sent before. Bytes that have to wait are queued by reference instead
  /// of copied. `hasBegun` means that the frame in which the range begins may have been sent in part, so that
  /// `discardQueue` must keep the rest of it.
  @inline(__always)
  func write(_ shared: SharedBytes, in range: Range<Int>, hasBegun: Bool) {
    guard !range.isEmpty, state == .open else { return }
    var sent = 0
    if queue.isEmpty {
      sent = shared.bytes.withUnsafeBytes { sendNow(UnsafeRawBufferPointer(rebasing: $0[range])) }
      guard sent < range.count else { return }
    }
    enqueue(
      OutputQueue.Chunk(
        content: .bytes(shared), range: range.dropFirst(sent), hasBegun: hasBegun || sent > 0))
  }

  func write(_ bytes: [UInt8]) { bytes.withUnsafeBytes { write($0) } }

  /// Sends the bytes of `head` followed by shared bytes, if possible with one call and without a copy of a large body
  /// (writev(2)). May append to `head`.
  func write(_ head: inout [UInt8], then body: SharedBytes?) {
    guard let body, body.count > 0 else {
      write(head)
      return
    }
    // TLS copies the bytes anyway, and encrypts both parts for one `send`.
    if body.count <= (tls == nil ? Self.copiedBytes : Self.encryptedAtOnceBytes) {
      head.append(contentsOf: body.bytes)
      write(head)
      return
    }
    guard tls == nil, queue.isEmpty, state == .open else {
      write(head)
      write(body, in: 0..<body.count, hasBegun: true)
      return
    }
    writeBoth(head, body)
  }

  private func writeBoth(_ head: [UInt8], _ body: SharedBytes) {
    let sent = head.withUnsafeBytes { head in
      body.bytes.withUnsafeBytes { body in count(socket.send(head, body)) }
    }
    if sent < head.count { enqueue(Array(head[sent...]), hasBegun: sent > 0) }
    let bodyStart = max(0, sent - head.count)
    if bodyStart < body.count {
      enqueue(
        OutputQueue.Chunk(content: .bytes(body), range: bodyStart..<body.count, hasBegun: true))
    }
  }

  /// Queues a part of a file, which the kernel sends without a copy to this process (`sendfile`). Must not be called
  /// with TLS.
  func write(_ slice: FileSlice) {
    precondition(tls == nil, "TLS has to encrypt it")
    guard state == .open, !slice.range.isEmpty else { return }
    enqueue(
      OutputQueue.Chunk(
        content: .file(slice.file),
        range: Int(slice.range.lowerBound)..<Int(slice.range.upperBound), hasBegun: false))
  }

  private func enqueue(_ bytes: [UInt8], hasBegun: Bool) {
    enqueue(
      OutputQueue.Chunk(
        content: .bytes(SharedBytes(bytes)), range: 0..<bytes.count, hasBegun: hasBegun))
  }

  private func enqueue(_ chunk: OutputQueue.Chunk) {
    guard state == .open || state == .flushing else { return }
    writeHeld()
    outlet.blockers.insert(.queued)
    changeQueue { $0.append(chunk) }
    updateWatch()
  }

  /// Changes the queue, and updates the server's total of queued bytes. All changes must be made through this.
  private func changeQueue(_ body: (inout OutputQueue) -> Void) {
    let before = queue.byteCount
    body(&queue)
    if queue.byteCount != before { owner.queuedBytesChanged(by: queue.byteCount - before) }
  }

  /// Passes bytes to the kernel, encrypted if configured. Returns how many of them need not be queued: those that the
  /// kernel accepted or, with TLS, that were encrypted. Encrypted bytes that the kernel did not accept are put at the
  /// front of the queue. A broken connection is aborted; the result has no meaning then.
  @inline(__always)
  private func sendNow(_ bytes: UnsafeRawBufferPointer) -> Int {
    tls == nil ? sendRaw(bytes) : sendEncrypted(bytes)
  }

  @inline(__always)
  private func sendRaw(_ bytes: UnsafeRawBufferPointer) -> Int { count(socket.send(bytes)) }

  /// Returns how many bytes the kernel accepted, and adds them to `progress`. Aborts a broken connection.
  @inline(__always)
  private func count(_ outcome: ConnectedSocket.Outcome) -> Int {
    switch outcome {
    case .took(let count):
      progress.sent += count
      return count
    case .failed:
      abort()
      return 0
    }
  }

  private func sendEncrypted(_ bytes: UnsafeRawBufferPointer) -> Int {
    guard let tls, tls.isEstablished else {
      // Nothing can be sent before the handshake has produced keys.
      abort()
      return 0
    }
    var taken = 0
    while taken < bytes.count, state != .dead {
      let end = min(taken + Self.encryptedAtOnceBytes, bytes.count)
      do { try tls.send(UnsafeRawBufferPointer(rebasing: bytes[taken..<end])) } catch {
        owner.wire.output = []
        abort()
        return taken
      }
      taken = end
      if !sendWire() { break }
    }
    return taken
  }

  /// Sends what TLS has encrypted. Returns false if the kernel did not accept everything. The rest is then at the
  /// front of the queue, unless the connection is broken.
  private func sendWire() -> Bool {
    let wire = owner.wire
    guard !wire.output.isEmpty else { return true }
    // Encrypted bytes that are already queued must be sent first.
    let mustWait = queue.first?.isEncrypted == true
    let count = wire.output.count
    let sent = mustWait ? 0 : wire.output.withUnsafeBytes { sendRaw($0) }
    defer { wire.output.removeAll(keepingCapacity: count <= 128 * 1024) }
    guard state != .dead, sent < count else { return state != .dead }
    outlet.blockers.insert(.queued)
    changeQueue { queue in
      if let first = queue.first, case .encrypted(let waiting) = first.content {
        queue.removeFirst(first.range.count)
        queue.prepend(
          encrypted: Array(waiting.bytes[first.range]) + wire.output.dropFirst(sent))
      } else {
        queue.prepend(encrypted: Array(wire.output.dropFirst(sent)))
      }
    }
    updateWatch()
    return false
  }

  /// Resumes sending queued bytes, after the handler's `mayWrite` has become true. Calls the handler's `drained` when
  /// nothing is queued any more, even if nothing was queued.
  func resumeWriting() {
    isWritingResumed = true
    updateWatch()
  }

  /// Discards the queued bytes, because the reader must not or cannot receive them. The rest of a frame that has been
  /// sent in part is kept, so that the stream still consists of whole frames.
  func discardQueue() {
    guard !queue.isEmpty else { return }
    changeQueue { $0.discardUnstarted() }
    if queue.isEmpty { outlet.blockers.remove(.queued) }
  }

  /// Starts the clock of `stalledMilliseconds`: from now on the peer is expected to read what it is sent.
  func watchReader() { progress.begin(now: Monotonic.milliseconds) }

  /// Returns for how many milliseconds the peer has read nothing, although bytes are queued for it here or in the
  /// kernel. 0 if it has read something since the last call, or if nothing is queued. Must be called about once a
  /// second.
  func stalledMilliseconds(now: Int64) -> Int64 {
    progress.stalledMilliseconds(
      unread: socket.unacknowledgedBytes, isQueueEmpty: queue.isEmpty, now: now)
  }

  // MARK: Reading

  /// Stops or resumes reading, at most `count` bytes at once. While reading is stopped, TCP flow control holds the
  /// data back on the peer's side.
  func setReading(_ isReading: Bool, atMost count: Int = WebLoop.readBufferBytes) {
    guard state == .open else { return }
    self.isReading = isReading
    if isReading { readAtMost = count }
    updateWatch()
  }

  /// Whether so much TLS output is queued that nothing more is read from the peer. Otherwise a peer that never reads
  /// could make TLS produce output without end. In TLS 1.2, for example, each request for new keys (renegotiation) is
  /// refused with an alert.
  private var isClogged: Bool {
    guard let first = queue.first, first.isEncrypted else { return false }
    return first.range.count > Self.cloggedBytes
  }

  private func updateWatch() {
    guard isOpen, state != .dead else { return }
    let reads = !hasInputEnded && (isReading || state != .open) && !isClogged
    let mustWrite = !queue.isEmpty && !isHolding
    let writes =
      isWritingResumed || (mustWrite && (state != .open || handler?.mayWrite != false))
    let wanted = DescriptorWatch.Readiness(isReadable: reads, isWritable: writes)
    guard wanted.rawValue != watched.rawValue else { return }
    watched = wanted
    watch?.watch(wanted)
  }

  // MARK: Closing

  /// Closes the connection when everything written has been sent. Input that arrives meanwhile is dropped. A peer that
  /// reads nothing for `patience` milliseconds is cut off.
  func close(patience: Int64) {
    guard state == .open else { return }
    writeHeld()
    guard state == .open else { return }
    state = .flushing
    outlet.blockers.insert(.closed)
    let now = Monotonic.milliseconds
    end = ConnectionEnd(patience: patience, now: now)
    watchReader()
    tick(by: now + Self.progressMilliseconds)
    updateWatch()
    if queue.isEmpty { finishFlush() }
  }

  /// Closes the connection without sending what is queued. The protocol's `closed` is called later, not during this
  /// call.
  func abort() {
    guard state != .dead else { return }
    state = .dead
    outlet.blockers.insert(.closed)
    changeQueue { $0.removeAll() }
    // During a callback, `becameReady` closes the connection at its end. Otherwise closing is deferred, because it
    // calls the protocol, which may change a collection that the caller is iterating over.
    guard !isInCallback else { return }
    let transport = LoopBound(self, on: loop)
    loop.execute { transport.value.closeNow() }
  }

  /// Called when `tickDue` has come, or earlier. Passes the tick to the protocol. If the connection is closing, cuts
  /// it instead if its peer takes too long.
  func tick(now: Int64) {
    guard let end else {
      handler?.tick(now: now)
      return
    }
    let stalledMilliseconds = stalledMilliseconds(now: now)
    if end.isOver(
      stalledMilliseconds: stalledMilliseconds, unread: socket.unacknowledgedBytes, now: now)
    {
      state = .dead
      closeNow()
    }
  }

  /// The time of `Monotonic.milliseconds` at which this transport needs a tick; nil if it is closed.
  var tickDue: Int64? {
    guard isOpen else { return nil }
    if end != nil { return Monotonic.milliseconds + Self.progressMilliseconds }
    return handler?.tickDue
  }

  /// Requests a call of `tick` at this moment, unless one comes earlier.
  func tick(by moment: Int64) { owner.tick(self, by: moment) }

  private func finishFlush() {
    guard state == .flushing else { return }
    if let tls, end?.shutAt == nil {
      end?.shut(now: Monotonic.milliseconds)
      if tls.isEstablished { tls.endSending() }
      // If the kernel does not accept the TLS closure alert, this is called again when the queue has been sent.
      guard sendWire() else { return }
    }
    state = .lingering
    end?.shut(now: Monotonic.milliseconds)
    if hasInputEnded {
      abort()
      return
    }
    socket.endSending()
    updateWatch()
  }

  /// Closes the connection at once, and calls the protocol's `closed`. During a callback of this transport the
  /// connection is closed at the callback's end.
  func closeNow() {
    guard isOpen else { return }
    guard !isInCallback else { return abort() }
    isOpen = false
    state = .dead
    outlet.blockers.insert(.closed)
    watch?.close()
    watch = nil
    socket.close()
    changeQueue { $0.removeAll() }
    handler?.closed()
    handler = nil
  }

  // MARK: Socket events

  private func becameReady(_ readiness: DescriptorWatch.Readiness) {
    // When the connection is closed, the protocol gives up what may be the last reference to this object.
    withExtendedLifetime(self) {
      isInCallback = true
      if readiness.hasFailed {
        state = .dead
      } else {
        if readiness.isReadable { read() }
        if readiness.isWritable, state != .dead { becameWritable() }
      }
      isInCallback = false
      if state == .dead { closeNow() } else { updateWatch() }
    }
  }

  private func read() {
    let buffer = UnsafeMutableRawBufferPointer(
      rebasing: owner.readBuffer[..<min(readAtMost, owner.readBuffer.count)])
    switch socket.receive(into: buffer) {
    case .bytes(let count):
      let bytes = UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
      if tls == nil { received(bytes) } else { decrypt(UnsafeRawBufferPointer(bytes)) }
    case .none: break
    case .end: endInput()
    case .failed: state = .dead
    }
  }

  private func received(_ bytes: UnsafeMutableRawBufferPointer) {
    switch state {
    case .open: handler?.received(bytes)
    case .flushing, .lingering: end?.received(bytes.count, now: Monotonic.milliseconds)
    case .dead: break
    }
  }

  private func decrypt(_ bytes: UnsafeRawBufferPointer) {
    guard let tls else { return }
    do {
      let goesOn = try tls.receive(bytes) { piece in
        _ = sendWire()
        received(piece)
        return state != .dead
      }
      _ = sendWire()
      if !goesOn { endInput() }
    } catch {
      owner.tlsFailed(error, peer: peer)
      if error.isPlainHTTP {
        owner.wire.output.removeAll()
        _ = Self.plainHTTPAnswer.withUnsafeBytes { sendRaw($0) }
      } else {
        // Send the TLS alert, which tells the peer the reason.
        _ = sendWire()
      }
      state = .dead
    }
  }

  /// The answer to a client that speaks plain HTTP to a TLS listener.
  private static let plainHTTPAnswer = Array(
    """
    HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n\
    This address speaks HTTPS only.\n
    """.utf8)

  private func endInput() {
    guard !hasInputEnded else { return }
    hasInputEnded = true
    switch state {
    case .open: handler?.inputEnded()
    // Both sides are shut down now.
    case .lingering: state = .dead
    case .flushing, .dead: break
    }
  }

  private func becameWritable() {
    isWritingResumed = false
    if state == .open, handler?.mayWrite == false { return }
    isHolding = false
    while let chunk = queue.first {
      guard sendFirst(chunk), state != .dead else { return }
    }
    outlet.blockers.remove(.queued)
    if state == .flushing { finishFlush() } else if state == .open { handler?.drained() }
  }

  /// Sends the first chunk of the queue, or as much of it as one turn allows. Returns false if sending must pause,
  /// because the kernel accepted less or because other connections should have a turn.
  private func sendFirst(_ chunk: OutputQueue.Chunk) -> Bool {
    switch chunk.content {
    case .file(let file):
      // If the file has become shorter, the announced length cannot be sent, so `count` aborts the connection.
      let sent = count(socket.send(file, chunk.range, atMost: Self.fileAtOnceBytes))
      changeQueue { $0.removeFirst(sent) }
      return sent == chunk.range.count
    case .encrypted(let bytes):
      return sendFirst(bytes, chunk.range)
    case .bytes(let bytes):
      guard tls != nil else { return sendFirst(bytes, chunk.range) }
      let piece = chunk.range.prefix(Self.encryptedAtOnceBytes)
      // Remove the piece from the queue before it is encrypted, because `sendNow` puts encrypted bytes that the kernel
      // does not accept at the front of the queue.
      changeQueue { $0.removeFirst(piece.count) }
      _ = bytes.bytes.withUnsafeBytes { sendNow(UnsafeRawBufferPointer(rebasing: $0[piece])) }
      return queue.first?.isEncrypted != true
    }
  }

  private func sendFirst(_ bytes: SharedBytes, _ range: Range<Int>) -> Bool {
    let sent = bytes.bytes.withUnsafeBytes { sendRaw(UnsafeRawBufferPointer(rebasing: $0[range])) }
    changeQueue { $0.removeFirst(sent) }
    return sent == range.count
  }
}
