internal import Basics
internal import EventLoop

/// The bounds of one connection, in the units in which they are checked.
struct ConnectionLimits: Sendable {
  let headerBytes: Int
  let bodyBytes: Int
  let frameBytes: Int
  let handshakeMilliseconds: Int64
  let requestMilliseconds: Int64

  init(_ settings: Settings) {
    headerBytes = settings.maxHeaderBytes
    bodyBytes = settings.maxBodyBytes
    frameBytes = settings.maxFrameBytes
    handshakeMilliseconds = Int64(settings.handshakeSeconds) * 1000
    requestMilliseconds = Int64(settings.requestSeconds) * 1000
  }
}

/// The connections of one event loop.
final class WebLoop {
  let loop: Loop
  let application: Application
  let limits: ConnectionLimits
  private(set) var isDraining = false
  private let server: WebServer
  private let transports: TransportContext
  private var listeners: [Listener] = []
  private var connections: [ObjectIdentifier: Transport] = [:]
  private var ticker: Timer?
  private var date: (second: Int64, text: [UInt8]) = (-1, [])
  /// Bytes that waited for readers at the last tick.
  private var queuedBytes = 0

  private static let tickMilliseconds = 250

  init(
    server: WebServer, loop: Loop, application: Application, limits: ConnectionLimits,
    certificate: TransportContext.Certificate?
  ) throws {
    loop.preconditionOnLoop()
    self.server = server
    self.loop = loop
    self.application = application
    self.limits = limits
    transports = try TransportContext(loop: loop, certificate: certificate)
    // Unowned, here and below: what calls back is owned, and ended in `destroy`.
    ticker = loop.schedule(every: Self.tickMilliseconds) { [unowned self] in tick() }
  }

  /// Takes over a bound descriptor and accepts on it.
  func listen(on descriptor: Int32) throws {
    listeners.append(
      try Listener(loop: loop, descriptor: descriptor) { [unowned self] descriptor, peer in
        accept(descriptor, peer)
      })
  }

  private func accept(_ descriptor: Int32, _ peer: IPAddress) {
    guard server.mayAccept() else {
      closeDescriptor(descriptor)
      return
    }
    guard let transport = transports.adopt(descriptor, peer: peer) else { return }
    server.connectionOpened()
    transport.handler = HTTPConnection(owner: self, transport: transport)
    connections[ObjectIdentifier(transport)] = transport
  }

  func forget(_ transport: Transport) {
    if connections.removeValue(forKey: ObjectIdentifier(transport)) != nil {
      server.connectionClosed()
    }
  }

  func webSocketOpened() { server.webSocketOpened() }
  func webSocketClosed() { server.webSocketClosed() }
  func webSocketDropped(_ code: CloseCode) { server.webSocketDropped(code) }

  func refused(_ error: AppError, requestID: String, peer: IPAddress) {
    server.refused(error, requestID: requestID, peer: peer)
  }

  private func tick() {
    let now = Monotonic.milliseconds
    // A tick may close connections, which changes the dictionary: walk over a copy.
    var queued = 0
    for transport in Array(connections.values) {
      transport.tick(now: now)
      queued += transport.queuedBytes
    }
    server.queuedBytesChanged(by: queued - queuedBytes)
    queuedBytes = queued
  }

  /// The Date header's value (RFC 9110, 5.6.7), made once a second.
  func httpDate() -> [UInt8] {
    let second = Timestamp.now.milliseconds / 1000
    if second != date.second { date = (second, imfFixdate(second)) }
    return date.text
  }

  // MARK: Ending

  func stopAccepting() {
    for listener in listeners { listener.stop() }
    listeners = []
  }

  /// Lets requests finish and closes WebSockets with 1001.
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

  /// Answers the requests that are not done at the end of draining.
  func giveUp() {
    for transport in Array(connections.values) {
      if let connection = transport.handler as? HTTPConnection { connection.giveUp() }
    }
  }

  func destroy() {
    stopAccepting()
    ticker?.cancel()
    transports.destroy()
  }

  func reloadCertificate(_ certificate: TransportContext.Certificate) -> Bool {
    transports.reloadCertificate(certificate)
  }
}
