internal import Basics
internal import CLibWebSockets
internal import EventLoop

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// What a connection's protocol does with its transport: HTTP/1.1 first, WebSocket after an upgrade.
protocol TransportHandler: AnyObject {
  /// Bytes arrived. They may be changed in place (unmasking) and are gone after the call.
  func received(_ bytes: UnsafeMutableRawBufferPointer)
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
/// reference where it came so, and is counted in `queuedBytes`. The bound on that is the caller's.
///
/// Hot path: a plain socket is written with `send` itself, without libwebsockets' checks and copies
/// (`fanout` benchmark); only TLS goes through `lws_write`, which may keep the rest of one write.
final class Transport {
  let loop: Loop
  let peer: IPAddress
  let isSecure: Bool
  /// Strong: a transport keeps its protocol alive, which refers back without holding.
  var handler: (any TransportHandler)?
  private(set) var isOpen = true
  /// Bytes accepted by `write` that the kernel has not taken.
  var queuedBytes: Int { queuedHere + queuedInLibrary }
  private var queuedHere = 0 { didSet { owner.queuedBytesChanged(by: queuedHere - oldValue) } }
  /// At most this many bytes of the last write wait inside libwebsockets; 0 once they have left.
  private var queuedInLibrary = 0 {
    didSet { owner.queuedBytesChanged(by: queuedInLibrary - oldValue) }
  }
  /// Where it stands in its loop's timer wheel.
  var wheelDue = TimerWheel<ObjectIdentifier>.Due.none

  /// For those who send the same to many.
  let outlet: Outlet

  // Unowned: a loop's connections end before it.
  private unowned let owner: WebLoop
  private let descriptor: Int32
  private var wsi: OpaquePointer?
  private var queue: [Chunk] = []
  private var queueHead = 0
  private var state = State.open
  private var isInCallback = false
  private var isHandshakeOver = false

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

  private struct Chunk {
    let bytes: SharedBytes
    /// What of them is to leave.
    var range: Range<Int>
    /// Whether the frame that it begins in may have left in part.
    var hasBegun: Bool
  }

  /// How long a peer may take to read our last bytes, and then to close, before it is cut.
  private static let flushMilliseconds: Int64 = 5_000
  private static let lingerMilliseconds: Int64 = 2_000
  /// When that time is over; nil while the connection is open. Not libwebsockets' own timeouts: those
  /// are armed by its traffic only.
  private var cutAt: Int64?

  init(owner: WebLoop, peer: IPAddress, descriptor: Int32, isSecure: Bool) {
    self.owner = owner
    loop = owner.loop
    self.peer = peer
    self.descriptor = descriptor
    self.isSecure = isSecure
    outlet = Outlet(descriptor: descriptor, isSecure: isSecure)
  }

  func attach(_ wsi: OpaquePointer) { if isOpen { self.wsi = wsi } }

  // MARK: Writing

  /// Sends bytes, after all that was sent before. Copies only what the kernel did not take.
  @inline(__always)
  func write(_ bytes: UnsafeRawBufferPointer) {
    guard !bytes.isEmpty, canWrite else { return }
    if mustQueue {
      enqueue(SharedBytes([UInt8](bytes)), in: 0..<bytes.count, hasBegun: false)
    } else {
      writeNow(bytes) { sent in
        let rest = SharedBytes([UInt8](UnsafeRawBufferPointer(rebasing: bytes[sent...])))
        enqueue(rest, in: 0..<rest.count, hasBegun: sent > 0)
      }
    }
  }

  /// As `write`, but where the bytes must wait they are kept by reference, not copied. `hasBegun` where the frame
  /// that the range begins in may have left in part.
  @inline(__always)
  func write(_ shared: SharedBytes, in range: Range<Int>, hasBegun: Bool) {
    guard !range.isEmpty, canWrite else { return }
    if mustQueue {
      enqueue(shared, in: range, hasBegun: hasBegun)
    } else {
      shared.bytes.withUnsafeBytes {
        writeNow(UnsafeRawBufferPointer(rebasing: $0[range])) { sent in
          enqueue(shared, in: range.dropFirst(sent), hasBegun: hasBegun || sent > 0)
        }
      }
    }
  }

  func write(_ bytes: [UInt8]) { bytes.withUnsafeBytes { write($0) } }

  private var canWrite: Bool { state == .open && wsi != nil }

  private var mustQueue: Bool { queueHead < queue.count || isLibraryBusy }

  private var isLibraryBusy: Bool { isSecure && lws_partial_buffered(wsi) != 0 }

  /// Hands bytes to the kernel, or to TLS; what a plain socket does not take is left to `leftOver`.
  @inline(__always)
  private func writeNow(_ bytes: UnsafeRawBufferPointer, leftOver: (Int) -> Void) {
    if isSecure {
      writeTLS(bytes)
      return
    }
    let sent = send(descriptor, bytes.baseAddress, bytes.count, sendFlags)
    if sent == bytes.count { return }
    if sent >= 0 || errno == EAGAIN || errno == EINTR { leftOver(max(0, sent)) } else { abort() }
  }

  private func writeTLS(_ bytes: UnsafeRawBufferPointer) {
    guard let wsi, let start = bytes.baseAddress else { return }
    // lws_write takes a mutable pointer for protocols that put a header in front; raw bytes are only
    // read (libwebsockets manual, lws_write: "RAW" needs no LWS_PRE).
    let pointer = UnsafeMutablePointer(mutating: start.assumingMemoryBound(to: UInt8.self))
    if lws_write(wsi, pointer, bytes.count, LWS_WRITE_HTTP) < 0 {
      abort()
    } else if lws_partial_buffered(wsi) != 0 {
      queuedInLibrary = bytes.count
    }
  }

  private func enqueue(_ bytes: SharedBytes, in range: Range<Int>, hasBegun: Bool) {
    outlet.blockers.insert(.queued)
    queue.append(Chunk(bytes: bytes, range: range, hasBegun: hasBegun))
    queuedHere += range.count
    lws_callback_on_writable(wsi)
  }

  /// What is queued may leave again. Also where nothing is: whoever waits for that is told.
  func resumeWriting() { if let wsi { lws_callback_on_writable(wsi) } }

  /// Forgets what waits here, for a reader that will not get it any more. What has left in part stays:
  /// the stream remains whole frames.
  func discardQueue() {
    guard queueHead < queue.count else { return }
    queue = queue[queueHead...].prefix(1).filter(\.hasBegun)
    queueHead = 0
    queuedHere = queue.reduce(0) { $0 + $1.range.count }
    if !mustQueue { outlet.blockers.remove(.queued) }
  }

  // MARK: Reading

  /// Stops or resumes reading, so that a peer that sends faster than it is served waits.
  func setReading(_ isReading: Bool) {
    guard let wsi, state == .open else { return }
    lws_rx_flow_control(wsi, isReading ? 1 : 0)
  }

  // MARK: Closing

  /// Closes once everything written has left; what arrives meanwhile is read and forgotten.
  func close() {
    guard state == .open else { return }
    state = .flushing
    outlet.blockers.insert(.closed)
    setReadingForClose()
    if !mustQueue { finishFlush() }
  }

  private func setReadingForClose() {
    guard let wsi else { return }
    lws_rx_flow_control(wsi, 1)
    cutAfter(Self.flushMilliseconds)
  }

  private func cutAfter(_ milliseconds: Int64) {
    let moment = Monotonic.milliseconds + milliseconds
    cutAt = moment
    tick(by: moment)
  }

  /// Closes without waiting for anything.
  func abort() {
    guard state != .dead else { return }
    state = .dead
    outlet.blockers.insert(.closed)
    queue = []
    queueHead = 0
    queuedHere = 0
    // Inside a callback its result closes the connection. Elsewhere it must wait until whoever is
    // calling is done: closing calls the protocol, which changes what the caller may be walking over.
    guard !isInCallback, wsi != nil else { return }
    let transport = LoopBound(self, on: loop)
    loop.execute { transport.value.cut() }
  }

  /// Closes at once, with the callbacks of closing inside. Not from a callback.
  private func cut() {
    guard let wsi, !isInCallback else { return }
    state = .dead
    lws_set_timeout(wsi, PENDING_TIMEOUT_USER_OK, -2)  // LWS_TO_KILL_SYNC
  }

  /// Called when `tickDue` has come, or earlier: cuts peers that take too long over the end.
  func tick(now: Int64) {
    if let cutAt, now >= cutAt { cut() } else { handler?.tick(now: now) }
  }

  /// Nil where nothing is to be looked at any more.
  var tickDue: Int64? {
    guard isOpen else { return nil }
    let due = handler?.tickDue
    return cutAt.map { min($0, due ?? $0) } ?? due
  }

  /// `tick` is to be called at this moment, if not earlier.
  func tick(by moment: Int64) { owner.tick(self, by: moment) }

  private func finishFlush() {
    guard state == .flushing, wsi != nil else { return }
    if isSecure {
      // TLS has a farewell of its own, which libwebsockets sends while closing.
      abort()
      return
    }
    state = .lingering
    shutdown(descriptor, Int32(SHUT_WR))
    cutAfter(Self.lingerMilliseconds)
  }

  // MARK: From libwebsockets

  func didReceive(_ bytes: UnsafeMutableRawBufferPointer) -> Int32 {
    isInCallback = true
    defer { isInCallback = false }
    if isSecure, !isHandshakeOver {
      isHandshakeOver = true
      // Its time for the handshake goes on counting after it, and would cut the connection.
      lws_set_timeout(wsi, NO_PENDING_TIMEOUT, 0)
    }
    if state == .open { handler?.received(bytes) }
    return state == .dead ? -1 : 0
  }

  func becameWritable() -> Int32 {
    isInCallback = true
    defer { isInCallback = false }
    if !isLibraryBusy { queuedInLibrary = 0 }
    if state == .open, handler?.mayWrite == false { return 0 }
    var isBlocked = isLibraryBusy
    while queueHead < queue.count, state == .open || state == .flushing, !isBlocked {
      let chunk = queue[queueHead]
      queueHead += 1
      queuedHere -= chunk.range.count
      chunk.bytes.bytes.withUnsafeBytes {
        writeNow(UnsafeRawBufferPointer(rebasing: $0[chunk.range])) { sent in
          isBlocked = true
          queueHead -= 1
          queue[queueHead].range = chunk.range.dropFirst(sent)
          if sent > 0 { queue[queueHead].hasBegun = true }
          queuedHere += chunk.range.count - sent
        }
      }
      if isLibraryBusy { isBlocked = true }
    }
    if state == .dead { return -1 }
    if queueHead < queue.count || isLibraryBusy {
      if queueHead > 64 {
        queue.removeFirst(queueHead)
        queueHead = 0
      }
      lws_callback_on_writable(wsi)
    } else {
      queue = []
      queueHead = 0
      outlet.blockers.remove(.queued)
      if state == .flushing { finishFlush() } else { handler?.drained() }
    }
    return state == .dead ? -1 : 0
  }

  func didClose() {
    isOpen = false
    state = .dead
    outlet.blockers.insert(.closed)
    wsi = nil
    queue = []
    queueHead = 0
    queuedHere = 0
    handler?.closed()
    handler = nil
  }
}
