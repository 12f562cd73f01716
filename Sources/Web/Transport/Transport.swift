internal import Basics
internal import EventLoop
internal import TLS

/// The protocol of a connection on its transport: HTTP/1.1 first, WebSocket after an upgrade.
protocol TransportHandler: AnyObject {
  /// Bytes arrived. They may be changed in place (unmasking), and are valid during the call only.
  func received(_ bytes: UnsafeMutableRawBufferPointer)
  /// The peer sends nothing more, but may still read. Called once.
  func inputEnded()
  /// Everything that was queued has been sent.
  func drained()
  /// Whether queued bytes may be sent now. If not, `resumeWriting` must be called once they may.
  var mayWrite: Bool { get }
  /// The connection is gone, whoever ended it. Called once.
  func closed()
  /// Called when `tickDue` has come, or earlier.
  func tick(now: Int64)
  /// When the handler needs a tick, by `Monotonic.milliseconds`. If this becomes earlier, call `Transport.tick(by:)`.
  var tickDue: Int64 { get }
}

/// One accepted socket, with TLS if configured. Used on its loop only.
///
/// `write` passes bytes to the kernel at once if possible. The rest is queued here, by reference if it was passed by
/// reference, and counted in `queuedBytes`; the caller has to bound that. Queued bytes are encrypted when they are
/// sent, not before, so that they can still be discarded.
///
/// Hot path: a plain socket is written with `send` directly (benchmark `fanout`).
final class Transport {
  let loop: Loop
  let peer: IPAddress
  /// Strong: a transport retains its protocol, which refers back without retaining.
  var handler: (any TransportHandler)?
  private(set) var isOpen = true
  /// Returned when the transport is closed.
  var permit: ConnectionAdmission.Permit?
  /// Its position in the loop's timer wheel.
  var wheelDue = TimerWheel<ObjectIdentifier>.Due.none

  /// For fan-outs, which send the same bytes to many.
  let outlet: Outlet

  // Unowned: a loop's connections end before the loop.
  private unowned let owner: WebLoop
  private let socket: ConnectedSocket
  private var watch: DescriptorWatch?
  private var watched = DescriptorWatch.Readiness.readable
  private let tls: TLSSession?
  private var queue = OutputQueue()
  private var state = State.open
  /// Whether the queue contains exactly the bytes that were passed to `hold`. They are kept in the queue, so that
  /// `write` has only one thing to check.
  private var isHolding = false
  private var isInCallback = false
  private var isReading = true
  /// The most that is read in one turn: little, until the protocol raises it.
  private var readAtMost = BufferLease.freeBytes
  /// Whether the peer sends nothing more.
  private(set) var hasInputEnded = false
  /// Whether the protocol wants to be told when its bytes may be sent.
  private var isWritingResumed = false
  private var progress = OutputProgress()
  /// When a closing connection is cut; nil while it is open.
  private var end: ConnectionEnd?

  private enum State {
    case open
    /// Closes when the queue is empty.
    case flushing
    /// This side is shut down. What arrives is dropped until the peer closes too. Otherwise the kernel would answer
    /// unread bytes with a reset, which destroys the last bytes sent.
    case lingering
    /// Will be closed at the next opportunity.
    case dead
  }

  /// How often the progress of a peer with queued bytes is checked.
  private static let progressMilliseconds: Int64 = 1_000
  /// Copying up to this size costs less than passing two pieces to the kernel.
  private static let copiedBytes = 16 * 1024
  /// The bytes of a file that are sent in one turn.
  private static let fileAtOnceBytes = 1024 * 1024
  private static let cloggedBytes = 256 * 1024
  /// The plain bytes that TLS encrypts for one `send`.
  private static let encryptedAtOnceBytes = 64 * 1024

  /// Takes ownership of the descriptor, which must be non-blocking. Throws `SystemError` if the kernel cannot watch
  /// it; the descriptor is closed then.
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
  /// False as soon as the connection is to be closed at once.
  var isAlive: Bool { state != .dead }
  /// Whether what is written can still arrive.
  var canWrite: Bool { state == .open }

  /// The bytes that `write` accepted and the kernel has not.
  var queuedBytes: Int { queue.byteCount }

  // MARK: Writing

  /// Sends bytes after everything that was sent before. Copies only what the kernel did not accept.
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

  /// Queues bytes so that they leave together with what is written next in this turn, with one call if that is bytes
  /// too; at the end of the turn in any case.
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

  /// Sends the held bytes, if any: at the end of the turn, and before anything that cannot leave together with them.
  func writeHeld() {
    if let held = takeHeld() { write(held) }
  }

  /// Takes the held bytes that have not been sent.
  private func takeHeld() -> [UInt8]? {
    guard isHolding else { return nil }
    isHolding = false
    guard state == .open, let chunk = queue.first, case .bytes(let held) = chunk.content else {
      // TLS has output of its own, which must be sent first.
      updateWatch()
      return nil
    }
    changeQueue { $0.removeFirst(chunk.range.count) }
    if queue.isEmpty { outlet.blockers.remove(.queued) }
    return Array(held.bytes[chunk.range])
  }

  /// The same as `write`, but bytes that have to wait are kept by reference instead of copied. `hasBegun` means that
  /// the frame in which the range begins may have been sent in part.
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

  /// Sends the bytes of `head`, which may be modified, followed by shared bytes; if possible with one call and
  /// without a copy (writev(2)).
  func write(_ head: inout [UInt8], then body: SharedBytes?) {
    guard let body, body.count > 0 else {
      write(head)
      return
    }
    // TLS copies anyway, and sends everything it is given at once.
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

  /// Sends a part of a file without copying it to this process. On plain sockets only.
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

  /// Every change of the queue goes through this, so that the server's total is updated.
  private func changeQueue(_ body: (inout OutputQueue) -> Void) {
    let before = queue.byteCount
    body(&queue)
    if queue.byteCount != before { owner.queuedBytesChanged(by: queue.byteCount - before) }
  }

  /// Passes bytes to the kernel, encrypted if configured. Returns how many it accepted. Encrypted bytes that were not
  /// accepted go to the front of the queue. A broken connection is aborted, and accepts nothing.
  @inline(__always)
  private func sendNow(_ bytes: UnsafeRawBufferPointer) -> Int {
    tls == nil ? sendRaw(bytes) : sendEncrypted(bytes)
  }

  @inline(__always)
  private func sendRaw(_ bytes: UnsafeRawBufferPointer) -> Int { count(socket.send(bytes)) }

  /// How many bytes the kernel accepted.
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
      // Without keys nothing can be sent.
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

  /// Sends what TLS has encrypted. Returns false if the kernel did not accept everything; the rest is at the front of
  /// the queue.
  private func sendWire() -> Bool {
    let wire = owner.wire
    guard !wire.output.isEmpty else { return true }
    // Output of TLS that is queued already goes first.
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

  /// Queued bytes may be sent again. If nothing is queued, whoever waits for that is told.
  func resumeWriting() {
    isWritingResumed = true
    updateWatch()
  }

  /// Drops queued bytes, because the reader will not get them any more. What has been sent in part stays, so that the
  /// stream still consists of whole frames.
  func discardQueue() {
    guard !queue.isEmpty else { return }
    changeQueue { $0.discardUnstarted() }
    if queue.isEmpty { outlet.blockers.remove(.queued) }
  }

  /// Starts the clock of `stalledMilliseconds`: from now on the peer is expected to read what it is sent.
  func watchReader() { progress.begin(now: Monotonic.milliseconds) }

  /// For how many milliseconds the reader has taken nothing of what is queued for it, here and in the kernel. 0 if it
  /// has taken something since the last call, or if nothing is queued. Call this about once a second.
  func stalledMilliseconds(now: Int64) -> Int64 {
    progress.stalledMilliseconds(
      unread: socket.unacknowledgedBytes, isQueueEmpty: queue.isEmpty, now: now)
  }

  // MARK: Reading

  /// Stops or resumes reading. While it is stopped, the peer's data waits in its kernel. At most `count` bytes are
  /// read at once.
  func setReading(_ isReading: Bool, atMost count: Int = WebLoop.readBufferBytes) {
    guard state == .open else { return }
    self.isReading = isReading
    if isReading { readAtMost = count }
    updateWatch()
  }

  /// Whether so much TLS output is queued that nothing more is read from the peer. A peer that never reads can make
  /// TLS respond all the time, for example by requesting new keys in TLS 1.2, each of which is refused with an alert.
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

  /// Closes when everything written has been sent. What arrives meanwhile is dropped. Cuts a peer that takes nothing
  /// for `patience` milliseconds.
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

  /// Closes without waiting for anything.
  func abort() {
    guard state != .dead else { return }
    state = .dead
    outlet.blockers.insert(.closed)
    changeQueue { $0.removeAll() }
    // Deferred, because closing calls the protocol, which may change what the caller is iterating over.
    guard !isInCallback else { return }
    let transport = LoopBound(self, on: loop)
    loop.execute { transport.value.closeNow() }
  }

  /// Called when `tickDue` has come, or earlier. Cuts peers that take too long to close.
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

  /// Nil if nothing needs a tick any more.
  var tickDue: Int64? {
    guard isOpen else { return nil }
    if end != nil { return Monotonic.milliseconds + Self.progressMilliseconds }
    return handler?.tickDue
  }

  /// Requests a call of `tick` at this moment, if none comes earlier.
  func tick(by moment: Int64) { owner.tick(self, by: moment) }

  private func finishFlush() {
    guard state == .flushing else { return }
    if let tls, end?.shutAt == nil {
      end?.shut(now: Monotonic.milliseconds)
      if tls.isEstablished { tls.endSending() }
      // If the kernel does not accept it, this is called again when it can.
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

  /// Closes at once, and calls the protocol's `closed`. Not from a callback.
  func closeNow() {
    guard isOpen, !isInCallback else { return }
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

  // MARK: From the kernel

  private func becameReady(_ readiness: DescriptorWatch.Readiness) {
    // The protocol releases this object when it closes.
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
        // The alert that tells the reason.
        _ = sendWire()
      }
      state = .dead
    }
  }

  /// For a client that speaks plain HTTP to a TLS listener.
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
    // Both sides are shut down.
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

  /// Sends the first chunk of the queue, or as much of it as one turn allows. Returns false if the kernel accepted
  /// less, or if other connections should have a turn.
  private func sendFirst(_ chunk: OutputQueue.Chunk) -> Bool {
    switch chunk.content {
    case .file(let file):
      // If the file has become shorter, the announced length cannot be sent, and the connection is cut.
      let sent = count(socket.send(file, chunk.range, atMost: Self.fileAtOnceBytes))
      changeQueue { $0.removeFirst(sent) }
      return sent == chunk.range.count
    case .encrypted(let bytes):
      return sendFirst(bytes, chunk.range)
    case .bytes(let bytes):
      guard tls != nil else { return sendFirst(bytes, chunk.range) }
      let piece = chunk.range.prefix(Self.encryptedAtOnceBytes)
      // Removed from the queue before it is encrypted: encrypted bytes that the kernel does not accept go to the
      // front.
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
