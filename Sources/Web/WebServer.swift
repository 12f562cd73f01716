package import Basics
package import EventLoop
internal import Synchronization

/// The HTTP and WebSocket server on all event loops.
package final class WebServer: Sendable {
  private let group: LoopGroup
  private let settings: Settings
  private let log: Log
  private let maximumConnections: Int
  private let connections: Gauge
  private let webSockets: Gauge
  private let queuedBytes: Gauge
  private let metrics: Metrics
  private let refusals: Counter
  private let loops = Mutex<[LoopBound<WebLoop>]>([])

  /// Descriptors kept back for the database, files and what else the process opens.
  private static let reservedDescriptors = 512

  package init(
    settings: Settings, group: LoopGroup, openFileLimit: Int, log: Log, metrics: Metrics
  ) {
    self.settings = settings
    self.group = group
    self.log = log
    maximumWebSockets = max(16, openFileLimit - Self.reservedDescriptors)
    // A little more than the WebSockets, so that a full server can still say so over HTTP.
    maximumConnections = max(32, openFileLimit - Self.reservedDescriptors / 2)
    connections = metrics.gauge("martlet_connections", "Open TCP connections.")
    webSockets = metrics.gauge("martlet_websockets", "Open WebSockets.")
    queuedBytes = metrics.gauge(
      "martlet_queue_bytes", "Bytes that wait for their readers, over all connections.")
    self.metrics = metrics
    refusals = metrics.counter(
      "martlet_http_refused_total", "Requests that were refused before they reached a route.")
  }

  private var certificate: TransportContext.Certificate? {
    guard let chain = settings.tlsCertificate, let key = settings.tlsKey else { return nil }
    return TransportContext.Certificate(chainPath: chain, keyPath: key)
  }

  /// Binds and accepts on every loop; returns when all listen, with the address, its port filled in.
  /// `makeApplication` gets that address. Throws `SystemError` or `SettingsError`.
  package func start(
    _ makeApplication: (Settings.ListenAddress) -> Application
  ) async throws -> Settings.ListenAddress {
    var address = settings.listen
    var descriptors: [Int32] = []
    for _ in group.loops {
      let (descriptor, port) = try Listener.makeSocket(
        boundTo: address, isFirst: descriptors.isEmpty)
      address.port = port
      descriptors.append(descriptor)
    }
    let application = makeApplication(address)
    var bound: [(Loop, LoopBound<WebLoop>, Int32)] = []
    for (loop, descriptor) in zip(group.loops, descriptors) {
      bound.append((loop, try await makeLoop(loop, application), descriptor))
    }
    for (loop, webLoop, descriptor) in bound {
      try await onLoop(loop) { try webLoop.value.listen(on: descriptor) }
    }
    loops.withLock { $0 = bound.map(\.1) }
    return address
  }

  private func makeLoop(
    _ loop: Loop, _ application: Application
  ) async throws -> LoopBound<WebLoop> {
    try await onLoop(loop) { [self] in
      LoopBound(
        try WebLoop(
          server: self, loop: loop, application: application, limits: ConnectionLimits(settings),
          certificate: certificate), on: loop)
    }
  }

  private func onLoop<Result: Sendable>(
    _ loop: Loop, _ body: @escaping @Sendable () throws -> Result
  ) async throws -> Result {
    try await withCheckedThrowingContinuation { continuation in
      loop.execute { continuation.resume(with: Swift.Result { try body() }) }
    }
  }

  private func onEveryLoop(_ body: @escaping @Sendable (WebLoop) -> Void) {
    for bound in loops.withLock({ $0 }) { bound.loop.execute { body(bound.value) } }
  }

  // MARK: Operations

  /// Reads the certificate files again. Where they cannot be used the old certificate stays.
  package func reloadCertificate() {
    guard let certificate else { return }
    onEveryLoop { [log] loop in
      let number = Log.Value(loop.loop.index)
      if loop.reloadCertificate(certificate) {
        log.notice("certificate_reloaded", ["loop": number])
      } else {
        log.error(
          "certificate_not_reloaded", ["loop": number, "chain": .string(certificate.chainPath)])
      }
    }
  }

  package func stopAccepting() { onEveryLoop { $0.stopAccepting() } }

  /// Lets requests finish and closes WebSockets with 1001.
  package func drain() { onEveryLoop { $0.drain() } }

  /// Answers what is still under way with 503.
  package func giveUp() { onEveryLoop { $0.giveUp() } }

  package var openConnections: Int { connections.current }

  /// Cuts what is left and ends the loops' part of the server.
  package func destroy() async {
    for bound in loops.withLock({ $0 }) {
      await withCheckedContinuation { continuation in
        bound.loop.execute {
          bound.value.destroy()
          continuation.resume()
        }
      }
    }
  }

  // MARK: Counting

  func mayAccept() -> Bool { connections.current < maximumConnections }
  func connectionOpened() { connections.add(1) }
  func connectionClosed() { connections.add(-1) }
  func webSocketOpened() { webSockets.add(1) }
  func webSocketClosed() { webSockets.add(-1) }
  func queuedBytesChanged(by count: Int) { queuedBytes.add(count) }

  func webSocketDropped(_ code: CloseCode) {
    metrics.counter(
      "martlet_websockets_closed_total", "WebSockets that this server closed, by close code.",
      labels: ["code": "\(code.number)"]
    ).add()
  }

  /// How many WebSockets fit the limit of open files.
  package let maximumWebSockets: Int

  func refused(_ error: AppError, requestID: String, peer: IPAddress) {
    refusals.add()
    // A server that is too slow is news; clients that break rules are not.
    log.record(
      error.code.status == 503 ? .warning : .debug, "request_refused",
      [
        "request_id": .string(requestID), "code": .string(error.code.wire),
        "address": .init(peer),
      ])
  }
}
