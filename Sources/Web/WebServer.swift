package import Basics
package import EventLoop
internal import Synchronization
internal import TLS

/// The HTTP and WebSocket server on all event loops.
package final class WebServer: Sendable {
  private let group: LoopGroup
  private let configuration: WebConfiguration
  private let log: Log
  let admission: ConnectionAdmission
  private let webSockets: Gauge
  private let queuedBytes: Gauge
  private let metrics: Metrics
  private let refusals: Counter
  private let handshakeFailures: Counter
  let budget: BufferBudget
  /// The threads that read parts of files that the kernel has not cached.
  let filePool: ThreadPool
  private let certificates: CertificateStore?
  private let loops = Mutex<[LoopBound<WebLoop>]>([])

  /// The number of threads that read files. It does not depend on the number of processors, because these threads
  /// mostly wait for the disk.
  private static let fileThreads = 2

  package init(
    configuration: WebConfiguration, group: LoopGroup, openFileLimit: Int, log: Log,
    metrics: Metrics
  ) {
    self.configuration = configuration
    self.group = group
    self.log = log
    admission = ConnectionAdmission(
      configuration: configuration, openFileLimit: openFileLimit, metrics: metrics)
    certificates = CertificateStore(configuration.certificates, log: log, metrics: metrics)
    filePool = ThreadPool(name: "file", threads: Self.fileThreads, maximumWaiting: 65_536)
    webSockets = metrics.gauge("martlet_websockets", "Open WebSockets.")
    queuedBytes = metrics.gauge(
      "martlet_queue_bytes", "Bytes that wait for their readers, over all connections.")
    self.metrics = metrics
    refusals = metrics.counter(
      "martlet_http_refused_total", "Requests that were refused before they reached a route.")
    let budget = BufferBudget(bytes: configuration.bufferBytes)
    self.budget = budget
    metrics.reading(
      "martlet_buffer_bytes",
      "Bytes of large bodies and answers in flight, of MARTLET_BUFFER_BYTES."
    ) { Double(budget.heldBytes) }
    handshakeFailures = metrics.counter(
      "martlet_tls_failures_total", "TLS connections that failed, most in their handshake.")
  }

  /// Binds a socket for every loop, reads the certificates, and starts to accept connections. Returns when all loops
  /// listen, with the address that they listen on. If port 0 was configured, this address has the port that the system
  /// chose. `makeApplication` is called with the same address before the loops listen. Throws `SystemError` or
  /// `SettingsError`.
  package func start(
    _ makeApplication: (ListenAddress) -> Application
  ) async throws -> ListenAddress {
    var address = configuration.listen
    var descriptors: [Int32] = []
    do {
      for _ in group.loops {
        let (descriptor, port) = try Listener.makeSocket(
          boundTo: address, isFirst: descriptors.isEmpty)
        address.port = port
        descriptors.append(descriptor)
      }
      try certificates?.load()
    } catch {
      for descriptor in descriptors { Listener.closeSocket(descriptor) }
      throw error
    }
    let application = makeApplication(address)
    var bound: [(Loop, LoopBound<WebLoop>, Int32)] = []
    for (loop, descriptor) in zip(group.loops, descriptors) {
      bound.append((loop, try await makeLoop(loop, application), descriptor))
    }
    // Before they listen, so that `destroy` finds them.
    loops.withLock { $0 = bound.map(\.1) }
    var listening = 0
    do {
      for (loop, webLoop, descriptor) in bound {
        try await onLoop(loop) { try webLoop.value.listen(on: descriptor) }
        listening += 1
      }
    } catch {
      for descriptor in descriptors[listening...] { Listener.closeSocket(descriptor) }
      await destroy()
      throw error
    }
    return address
  }

  private func makeLoop(
    _ loop: Loop, _ application: Application
  ) async throws -> LoopBound<WebLoop> {
    try await onLoop(loop) { [self] in
      LoopBound(
        WebLoop(
          server: self, loop: loop, application: application,
          limits: ConnectionLimits(configuration)),
        on: loop)
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

  /// The TLS setup for new connections; nil without TLS.
  var tls: TLSServer? { certificates?.server }

  /// Reads the certificate files again. Open connections keep their certificate. If the files cannot be used, the old
  /// certificates stay.
  package func reloadCertificates() { certificates?.reload() }

  /// The same as `reloadCertificates`, but only if a file has changed since it was read.
  package func reloadChangedCertificates() { certificates?.reloadIfChanged() }

  /// Replaces the keys that encrypt the session tickets of TLS. Earlier sessions cannot be resumed afterwards.
  package func renewTicketKeys() { certificates?.renewTicketKeys() }

  package func stopAccepting() { onEveryLoop { $0.stopAccepting() } }

  /// Lets requests finish, and closes WebSockets with code 1001.
  package func drain() { onEveryLoop { $0.drain() } }

  /// Answers requests that are still in progress with 503.
  package func abandonRequests() { onEveryLoop { $0.abandonRequests() } }

  package var openConnections: Int { admission.openCount }

  /// Closes all connections and releases the server's state on every loop.
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

  /// Asks all loops except this one to close idle connections.
  func makeRoomElsewhere(than loop: Loop) {
    onEveryLoop { if $0.loop !== loop { $0.makeRoom() } }
  }

  func webSocketOpened() { webSockets.add(1) }
  func webSocketClosed() { webSockets.add(-1) }
  func queuedBytesChanged(by count: Int) { queuedBytes.add(count) }

  func webSocketDropped(_ code: CloseCode) {
    metrics.counter(
      "martlet_websockets_closed_total", "WebSockets that this server closed, by close code.",
      labels: ["code": "\(code.number)"]
    ).add()
  }

  /// The number of WebSockets that the limit of open files allows.
  package var maximumWebSockets: Int { admission.places }

  /// Logs that a connection was closed because the kernel or OpenSSL had no resources for it.
  func notAccepted(_ error: any Error, peer: IPAddress) {
    log.warning("connection_not_accepted", ["address": .init(peer), "cause": .string("\(error)")])
  }

  /// Counts and logs a TLS failure. It is the peer's fault, so it is logged at debug level only.
  func tlsFailed(_ error: TLSError, peer: IPAddress) {
    handshakeFailures.add()
    log.debug("tls_failed", ["address": .init(peer), "cause": .string("\(error)")])
  }

  /// Logs that the body of an answer failed after the head had been sent.
  func streamFailed(_ error: any Error, requestID: String) {
    log.error(
      "answer_broken", ["request_id": .string(requestID), "cause": .string("\(error)")])
  }

  func refused(_ error: AppError, requestID: String, peer: IPAddress) {
    refusals.add()
    // 503 means that this server is overloaded or slow, which deserves a warning. Other refusals are the client's
    // fault.
    log.record(
      error.code.status == 503 ? .warning : .debug, "request_refused",
      [
        "request_id": .string(requestID), "code": .string(error.code.wire),
        "address": .init(peer),
      ])
  }
}
