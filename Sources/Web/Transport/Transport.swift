internal import Basics
internal import EventLoop
internal import TLS

/// What a connection's protocol does with its transport: HTTP/1.1 first, WebSocket after an upgrade.
protocol TransportHandler: AnyObject {
  /// Bytes arrived. They may be changed in place (unmasking) and are gone after the call.
  func received(_ bytes: UnsafeMutableRawBufferPointer)
  /// The peer sends nothing more, but may still read. Called once.
  func inputEnded()
  /// All that was queued has left.
  func drained()
  /// Whether what is queued may leave now. Where it may not, `resumeWriting` is called once it may.
  var mayWrite: Bool { get }
  /// The connection is gone, whoever ended it. Called once.
  func closed()
  /// Called when `tickDue` has come, or earlier.
  func tick(now: Int64)
  /// The next moment that something is to be looked at, by `Monotonic.milliseconds`. Where it comes nearer,
  /// `Transport.tick(by:)` has to be told.
  var tickDue: Int64 { get }
}

/// One accepted socket, with TLS where that is configured. On its loop only.
///
/// `write` hands bytes to the kernel at once where it can; what does not fit waits here, shared by
/// reference where it came so, and is counted in `queuedBytes`. The bound on that is the caller's. What waits is
/// encrypted when it leaves, not before: until then it can be taken back.
///
/// Hot path: a plain socket is written with `send` itself (`fanout` benchmark).
final class Transport {
  let loop: Loop
  let peer: IPAddress
  /// Strong: a transport keeps its protocol alive, which refers back without holding.
  var handler: (any TransportHandler)?
  private(set) var isOpen = true
  /// What it gives back when it is closed.
  var permit: ConnectionAdmission.Permit?
  /// Where it stands in its loop's timer wheel.
  var wheelDue = TimerWheel<ObjectIdentifier>.Due.none

  /// For those who send the same to many.
  let outlet: Outlet

  // Unowned: a loop's connections end before it.
  private unowned let owner: WebLoop
  private let socket: ConnectedSocket
  private var watch: DescriptorWatch?
  private var watched = DescriptorWatch.Readiness.readable
  private let tls: TLSSession?
  private var queue = OutputQueue()
  private var state = State.open
  /// Whether the queue is the bytes that `hold` was given, and nothing else. They are kept there, so that `write` has one thing
  /// to look at.
  private var isHolding = false
  private var isInCallback = false
  private var isReading = true
  /// What is read in one turn: little, until its protocol says more.
  private var readAtMost = BufferLease.freeBytes
  /// Whether the peer sends nothing more.
  private(set) var hasInputEnded = false
  /// The protocol wants to be told when its bytes may leave.
  private var isWritingResumed = false
  private var progress = OutputProgress()
  /// When a closing connection is cut; nil while it is open.
  private var end: ConnectionEnd?

  private enum State {
    case open
    /// Closes when the queue is empty.
    case flushing
    /// Our side is shut; reads and forgets until the peer closes too, so that the kernel does not
    /// answer unread bytes with a reset that destroys our last words.
    case lingering
    /// Will be closed at the next occasion.
    case dead
  }

  /// How often a peer is looked at that has something to read.
  private static let progressMilliseconds: Int64 = 1_000
  /// A copy of so many bytes costs less than handing over two pieces.
  private static let copiedBytes = 16 * 1024
  /// Bytes of a file that are sent in one turn.
  private static let fileAtOnceBytes = 1024 * 1024
  private static let cloggedBytes = 256 * 1024
  /// Plain bytes that TLS encrypts for one `send`.
  private static let encryptedAtOnceBytes = 64 * 1024

  /// Owns the descriptor from here on, which does not block. Throws `SystemError` where the kernel does not watch it;
  /// the descriptor is closed then.
  init(owner: WebLoop, peer: IPAddress, descriptor: Int32, tls: TLSSession?) throws {
    self.owner = owner
    loop = owner.loop
    self.peer = peer
    socket = ConnectedSocket(descriptor: descriptor)
    self.tls = tls
    outlet = Outlet(descriptor: descriptor, isSecure: tls != nil)
    do {
      // Unowned: the watch is closed with the transport, which owns it.
      watch = try DescriptorWatch(loop: loop, descriptor: descriptor, watching: watched) {
        [unowned self] in becameReady($0)
      }
    } catch {
      socket.close()
      throw error
    }
  }

  var isSecure: Bool { tls != nil }
  /// False from the moment on that it is to be closed at once.
  var isAlive: Bool { state != .dead }
  /// Whether what is written can still arrive.
  var canWrite: Bool { state == .open }

  /// Bytes accepted by `write` that the kernel has not taken.
  var queuedBytes: Int { queue.byteCount }

  // MARK: Writing

  /// Sends bytes, after all that was sent before. Copies only what the kernel did not take.
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

  /// Writes bytes with what is written behind them in this turn, by one call where that is bytes too; at its end in any case.
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

  /// Writes what is held, where something is: at the end of the turn, and before anything that cannot leave with it.
  func writeHeld() {
    if let held = takeHeld() { write(held) }
  }

  /// What was held and has not left; nothing is held any more.
  private func takeHeld() -> [UInt8]? {
    guard isHolding else { return nil }
    isHolding = false
    guard state == .open, let chunk = queue.first, case .bytes(let held) = chunk.content else {
      // TLS has said something that must go first.
      updateWatch()
      return nil
    }
    changeQueue { $0.removeFirst(chunk.range.count) }
    if queue.isEmpty { outlet.blockers.remove(.queued) }
    return Array(held.bytes[chunk.range])
  }

  /// As `write`, but where the bytes must wait they are kept by reference, not copied. `hasBegun` where the frame
  /// that the range begins in may have left in part.
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

  /// Sends the bytes of `head`, which may be changed, and shared bytes behind them, where it can with one call and without
  /// a copy (writev(2)).
  func write(_ head: inout [UInt8], then body: SharedBytes?) {
    guard let body, body.count > 0 else {
      write(head)
      return
    }
    // TLS copies anyway, and sends what it is given as one.
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

  /// Sends a part of a file, without its bytes passing here. On plain sockets only.
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

  /// Every change of the queue passes here, so that the server knows what waits.
  private func changeQueue(_ body: (inout OutputQueue) -> Void) {
    let before = queue.byteCount
    body(&queue)
    if queue.byteCount != before { owner.queuedBytesChanged(by: queue.byteCount - before) }
  }

  /// Hands bytes to the kernel, encrypted where that is configured; returns how many it took. What was encrypted and
  /// not taken is put in front of the queue. A broken connection is aborted, and takes nothing.
  @inline(__always)
  private func sendNow(_ bytes: UnsafeRawBufferPointer) -> Int {
    tls == nil ? sendRaw(bytes) : sendEncrypted(bytes)
  }

  @inline(__always)
  private func sendRaw(_ bytes: UnsafeRawBufferPointer) -> Int { count(socket.send(bytes)) }

  /// How many bytes the kernel took.
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
      // Nothing can be said to who has not agreed on keys.
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

  /// Sends what TLS has encrypted; false where the kernel did not take all of it, and the rest waits in front of
  /// the queue.
  private func sendWire() -> Bool {
    let wire = owner.wire
    guard !wire.output.isEmpty else { return true }
    // What of TLS waits already goes first.
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

  /// What is queued may leave again. Also where nothing is: whoever waits for that is told.
  func resumeWriting() {
    isWritingResumed = true
    updateWatch()
  }

  /// Forgets what waits here, for a reader that will not get it any more. What has left in part stays:
  /// the stream remains whole frames.
  func discardQueue() {
    guard !queue.isEmpty else { return }
    changeQueue { $0.discardUnstarted() }
    if queue.isEmpty { outlet.blockers.remove(.queued) }
  }

  /// From now on the reader is to take what is sent to it: `stalledMilliseconds` counts from here.
  func watchReader() { progress.begin(now: Monotonic.milliseconds) }

  /// For how many milliseconds the reader has taken nothing of what waits for it, here and in the kernel: 0 where it
  /// has taken something since the last call, or where nothing waits. Call it every second or so.
  func stalledMilliseconds(now: Int64) -> Int64 {
    progress.stalledMilliseconds(
      unread: socket.unacknowledgedBytes, isQueueEmpty: queue.isEmpty, now: now)
  }

  // MARK: Reading

  /// Stops or resumes reading, so that a peer that sends faster than it is served waits. At most so many bytes come at once.
  func setReading(_ isReading: Bool, atMost count: Int = WebLoop.readBufferBytes) {
    guard state == .open else { return }
    self.isReading = isReading
    if isReading { readAtMost = count }
    updateWatch()
  }

  /// Whether so much of TLS waits to leave that its peer is not listened to: it may make TLS answer without ever reading
  /// that, as by asking for new keys in TLS 1.2 again and again, each of which is refused with an alert.
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

  /// Closes once everything written has left; what arrives meanwhile is read and forgotten. Cuts a peer that takes
  /// nothing for `patience` milliseconds.
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
    // Whoever calls goes on first: closing calls the protocol, which changes what the caller may be walking over.
    guard !isInCallback else { return }
    let transport = LoopBound(self, on: loop)
    loop.execute { transport.value.closeNow() }
  }

  /// Called when `tickDue` has come, or earlier: cuts peers that take too long over the end.
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

  /// Nil where nothing is to be looked at any more.
  var tickDue: Int64? {
    guard isOpen else { return nil }
    if end != nil { return Monotonic.milliseconds + Self.progressMilliseconds }
    return handler?.tickDue
  }

  /// `tick` is to be called at this moment, if not earlier.
  func tick(by moment: Int64) { owner.tick(self, by: moment) }

  private func finishFlush() {
    guard state == .flushing else { return }
    if let tls, end?.shutAt == nil {
      end?.shut(now: Monotonic.milliseconds)
      if tls.isEstablished { tls.endSending() }
      // Where the kernel does not take it, this is called again when it has.
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

  /// Closes at once, with the protocol's `closed` inside. Not from a callback.
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
    // The protocol lets go of this when it closes.
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
        // The alert that says why.
        _ = sendWire()
      }
      state = .dead
    }
  }

  /// For who speaks plain HTTP to a listener with TLS.
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
    // Both sides are shut.
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

  /// Sends the first chunk of the queue, or a part of it that is enough for one turn; false where the kernel took less,
  /// or others should have their turn.
  private func sendFirst(_ chunk: OutputQueue.Chunk) -> Bool {
    switch chunk.content {
    case .file(let file):
      // Where the file is shorter than it was, what the head has promised will not come: the connection is cut.
      let sent = count(socket.send(file, chunk.range, atMost: Self.fileAtOnceBytes))
      changeQueue { $0.removeFirst(sent) }
      return sent == chunk.range.count
    case .encrypted(let bytes):
      return sendFirst(bytes, chunk.range)
    case .bytes(let bytes):
      guard tls != nil else { return sendFirst(bytes, chunk.range) }
      let piece = chunk.range.prefix(Self.encryptedAtOnceBytes)
      // Out of the queue before it is encrypted: what the kernel does not take of that comes in front.
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
