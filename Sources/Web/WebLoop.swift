internal import Basics
internal import EventLoop
internal import TLS

/// The limits of one connection, as `HTTPMachine` and `WebSocketDecoder` take them.
struct ConnectionLimits: Sendable {
  let http: HTTPMachine.Limits
  let frameBytes: Int

  init(_ configuration: WebConfiguration) {
    http = HTTPMachine.Limits(
      headBytes: configuration.headBytes, headMilliseconds: configuration.handshakeMilliseconds,
      bodyMilliseconds: configuration.requestMilliseconds,
      workMilliseconds: configuration.requestMilliseconds)
    frameBytes = configuration.frameBytes
  }
}

/// The state of one turn of the loop: the transports that hold back bytes until the end of the turn.
///
/// A separate object, because the loop never releases its end-of-turn hooks. A hook that retained the `WebLoop` would
/// keep it alive, and a weak reference to it would cost more at every use.
private final class TurnState {
  var transports: [Transport] = []
  /// The number of requests that were handled at once in this turn.
  var answeredCount = 0

  func end() {
    answeredCount = 0
    guard !transports.isEmpty else { return }
    let transports = transports
    self.transports = []
    for transport in transports { transport.writeHeld() }
  }
}

/// The connections of one event loop. Used on that loop only.
final class WebLoop {
  let loop: Loop
  let application: Application
  let limits: ConnectionLimits
  private(set) var isDraining = false
  private let server: WebServer
  /// The network side of all TLS sessions of this loop. It holds bytes only during a call to a session.
  let wire = TLSWire()
  /// The buffer that all sockets of this loop read into. Its bytes are handled before the next read overwrites them.
  let readBuffer = UnsafeMutableRawBufferPointer.allocate(
    byteCount: readBufferBytes, alignment: 16)
  /// The buffer in which an answer is composed if it is sent at once. It is shared by all connections of this loop.
  var scratch: [UInt8] = []
  private var listeners: [Listener] = []
  private var connections: [ObjectIdentifier: Transport] = [:]
  /// The number of connections that are WebSockets.
  private var webSocketCount = 0
  private let turn = TurnState()
  private var ticker: LoopTimer?
  private var wheel = TimerWheel<ObjectIdentifier>(now: Monotonic.milliseconds)
  private var date: (second: Int64, text: [UInt8]) = (-1, [])

  /// The earliest time of the next search for connections to close, after a search that found too few.
  private var lookAgainAt: Int64 = 0

  private static let answeredAtOnce = 512
  private static let evictedAtOnce = 64
  /// The number of idle connections per loop, the newest ones, that `makeRoom` never closes, because their requests
  /// may be on the way.
  private static let sparedCount = 16
  private static let lookAgainMilliseconds: Int64 = 20
  /// The most bytes that are read from a socket at once.
  static let readBufferBytes = 64 * 1024

  init(server: WebServer, loop: Loop, application: Application, limits: ConnectionLimits) {
    loop.preconditionOnLoop()
    self.server = server
    self.loop = loop
    self.application = application
    self.limits = limits
    // Unowned, here and below: this object owns the timer and the listeners, and ends them in `destroy`.
    ticker = loop.schedule(every: Int(TimerWheel<ObjectIdentifier>.slotMilliseconds)) {
      [unowned self] in tick()
    }
    // Hooks run in the order in which they were added. The protocols added theirs earlier, so what they write at the
    // end of the turn is sent together with the held bytes.
    loop.onTurnEnd { [turn] in turn.end() }
  }

  /// Notes that the transport holds back bytes, which `Transport.writeHeld` sends at the end of the turn at the
  /// latest.
  func holds(_ transport: Transport) { turn.transports.append(transport) }

  /// Counts a request, and returns whether it may be handled at once. After `answeredAtOnce` requests in a turn,
  /// further ones must be handled as jobs of the loop, whose number per turn is bounded. So clients that send many
  /// requests at once do not block the loop for long.
  func mayAnswerAtOnce() -> Bool {
    turn.answeredCount += 1
    return turn.answeredCount <= Self.answeredAtOnce
  }

  /// Takes ownership of a bound descriptor and accepts connections on it.
  func listen(on descriptor: Int32) throws {
    listeners.append(
      try Listener(loop: loop, descriptor: descriptor) { [unowned self] descriptor, peer in
        accept(descriptor, peer)
      })
  }

  private func accept(_ descriptor: Int32, _ peer: IPAddress) {
    guard let permit = server.admission.admit(peer) else {
      closeDescriptor(descriptor)
      return
    }
    let transport: Transport
    do {
      transport = try makeTransport(descriptor, peer)
    } catch {
      server.admission.release(permit)
      server.notAccepted(error, peer: peer)
      return
    }
    transport.permit = permit
    connections[ObjectIdentifier(transport)] = transport
    transport.handler = HTTPConnection(owner: self, transport: transport)
    setTick(transport)
    if server.admission.surplus > 0 { makeRoom() }
  }

  /// Closes idle connections, oldest first, if the server has more connections than places. A connection is idle
  /// before its first request and between two requests.
  func makeRoom() {
    let surplus = server.admission.surplus
    let now = Monotonic.milliseconds
    guard surplus > 0, now >= lookAgainAt else { return }
    // Close more connections than necessary, so that a burst of new ones does not cause a search for each of them.
    let closed = closeIdle(max(surplus, Self.evictedAtOnce))
    guard closed < surplus else { return }
    // Wait before the next search: searching all connections for every new one would cost more than serving it.
    lookAgainAt = now + Self.lookAgainMilliseconds
    server.makeRoomElsewhere(than: loop)
  }

  /// Closes at most this many idle connections, oldest first. Returns how many it closed.
  private func closeIdle(_ wanted: Int) -> Int {
    // If at most `sparedCount` connections are not WebSockets, there is nothing to close, so the search is skipped.
    guard connections.count - webSocketCount > Self.sparedCount else { return 0 }
    var idle = connections.values.compactMap { transport in
      (transport.handler as? HTTPConnection)?.idleSince.map { (since: $0, transport) }
    }
    idle.sort { $0.since < $1.since }
    let leaving = idle.prefix(min(wanted, max(0, idle.count - Self.sparedCount)))
    for (_, transport) in leaving { transport.closeNow() }
    server.admission.evicted(leaving.count)
    return leaving.count
  }

  /// Makes the transport of an accepted connection. Takes ownership of the descriptor, and closes it if this throws.
  private func makeTransport(_ descriptor: Int32, _ peer: IPAddress) throws -> Transport {
    let session: TLSSession?
    do { session = try server.tls?.session(on: wire) } catch {
      closeDescriptor(descriptor)
      throw error
    }
    return try Transport(owner: self, peer: peer, descriptor: descriptor, tls: session)
  }

  func tlsFailed(_ error: TLSError, peer: IPAddress) { server.tlsFailed(error, peer: peer) }

  func forget(_ transport: Transport) {
    guard connections.removeValue(forKey: ObjectIdentifier(transport)) != nil else { return }
    if let permit = transport.permit { server.admission.release(permit) }
  }

  func webSocketOpened() {
    webSocketCount += 1
    server.webSocketOpened()
  }

  func webSocketClosed() {
    webSocketCount -= 1
    server.webSocketClosed()
  }

  func webSocketDropped(_ code: CloseCode) { server.webSocketDropped(code) }

  func refused(_ error: AppError, requestID: String, peer: IPAddress) {
    server.refused(error, requestID: requestID, peer: peer)
  }

  func streamFailed(_ error: any Error, requestID: String) {
    server.streamFailed(error, requestID: requestID)
  }

  /// Returns a permit for a WebSocket; nil if its connection is counted already (`ConnectionAdmission`). Throws
  /// `too_many_connections` if the client has reached its limit.
  func admitWebSocket(_ origin: RequestOrigin) throws(AppError) -> ConnectionCounter.Permit? {
    try server.admission.admitWebSocket(origin)
  }

  /// The memory budget that all request bodies and answers in flight share.
  var budget: BufferBudget { server.budget }

  /// Returns a reader of a part of a file, which is sent to a client at this address.
  func pieces(of slice: FileSlice, isSecure: Bool, for site: IPAddress.Site) -> FilePieces {
    FilePieces(slice: slice, isSecure: isSecure, pool: server.filePool, site: site)
  }

  func queuedBytesChanged(by count: Int) { server.queuedBytesChanged(by: count) }

  // MARK: Timers

  /// Schedules a tick for the transport at this moment (`Monotonic.milliseconds`), unless one comes earlier.
  func tick(_ transport: Transport, by moment: Int64) {
    wheel.set(ObjectIdentifier(transport), at: moment, &transport.wheelDue)
  }

  private func setTick(_ transport: Transport) {
    if let due = transport.tickDue { tick(transport, by: due) }
  }

  private func tick() {
    let now = Monotonic.milliseconds
    // A tick may close connections and set other timers, so all due transports are collected first.
    var due: [Transport] = []
    wheel.take(now: now) { id, isDue in
      if let transport = connections[id], isDue(&transport.wheelDue) { due.append(transport) }
    }
    for transport in due where transport.isOpen {
      transport.tick(now: now)
      setTick(transport)
    }
  }

  /// Returns the value of the Date header (RFC 9110, 5.6.7). It is formatted at most once a second.
  func httpDate() -> [UInt8] {
    let second = Timestamp.now.milliseconds / 1000
    if second != date.second { date = (second, Array(HTTPDate.text(second).utf8)) }
    return date.text
  }

  // MARK: Draining and closing

  func stopAccepting() {
    for listener in listeners { listener.stop() }
    listeners = []
  }

  /// Lets requests finish, and closes WebSockets with code 1001.
  func drain() {
    isDraining = true
    for transport in Array(connections.values) {
      switch transport.handler {
      case let connection as HTTPConnection: connection.drain()
      case let connection as WebSocketConnection: connection.drain()
      default: break
      }
    }
  }

  /// Answers the requests that are still unfinished when the time for the drain is over, with 503.
  func abandonRequests() {
    for transport in Array(connections.values) {
      if let connection = transport.handler as? HTTPConnection { connection.abandonRequests() }
    }
  }

  func destroy() {
    stopAccepting()
    ticker?.cancel()
    for transport in Array(connections.values) { transport.closeNow() }
  }

  deinit { readBuffer.deallocate() }
}
