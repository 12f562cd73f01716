internal import Access
internal import Basics
internal import EventLoop

/// HTTP/1.1 on one transport: reads requests one after the other, also pipelined ones, has each
/// answered before the next is looked at, and turns into a WebSocket where the answer says so.
///
/// On its loop only. Bounds: a head and a body have their size and their time; bytes of later
/// requests wait in the kernel once a little has been read ahead.
final class HTTPConnection: TransportHandler {
  // Unowned: the loop's connections end before it, and a transport owns its protocol.
  private unowned let owner: WebLoop
  private unowned let transport: Transport
  private var buffer: [UInt8] = []
  private var state: State { didSet { if let deadline { transport.tick(by: deadline) } } }
  /// Counts requests, so that an answer that comes too late is known as such.
  private var requestNumber = 0
  private var isReadingPaused = false
  private var hasInputEnded = false

  private enum State {
    /// Waiting for a head, or reading it since the given moment once its first byte is here.
    case head(RequestHeadParser, since: Int64)
    case body(RequestHead, length: Int, since: Int64)
    case answering(Answering)
    /// Answers wait for the client to read them, since the given moment; no more requests are read.
    case blocked(since: Int64)
    case upgraded
    case closing
  }

  private struct Answering {
    let method: Method
    let isVersion10: Bool
    let keepsAlive: Bool
    let headers: Headers
    let requestID: String
    let since: Int64
    let task: Task<Void, Never>
  }

  /// Bytes of later requests that are read while one is answered.
  private static let readAheadBytes = 64 * 1024
  /// Bytes of answers that may wait for the client before its next request is looked at.
  private static let queuedAnswerBytes = 256 * 1024
  /// A reader that takes nothing of its answer for so long is cut.
  private static let readerMilliseconds: Int64 = 30_000
  /// How long an idle connection is kept for another request.
  private static let keepAliveMilliseconds: Int64 = 60_000

  init(owner: WebLoop, transport: Transport) {
    self.owner = owner
    self.transport = transport
    state = .head(
      RequestHeadParser(maximumBytes: owner.limits.headerBytes), since: Monotonic.milliseconds)
  }

  // MARK: TransportHandler

  func received(_ bytes: UnsafeMutableRawBufferPointer) {
    if case .closing = state { return }
    let wasEmpty = buffer.isEmpty
    buffer.append(contentsOf: bytes)
    if case .head(let parser, _) = state, wasEmpty {
      // The time for a head starts with its first byte.
      state = .head(parser, since: Monotonic.milliseconds)
    }
    advance()
    if case .answering = state, buffer.count > Self.readAheadBytes, !isReadingPaused {
      isReadingPaused = true
      transport.setReading(false)
    }
  }

  func inputEnded() {
    hasInputEnded = true
    switch state {
    // It may still read its answers.
    case .answering, .blocked, .closing, .upgraded: break
    case .head, .body: close()
    }
  }

  var mayWrite: Bool { true }

  func drained() {
    if case .blocked = state { readNext() }
  }

  func closed() {
    if case .answering(let answering) = state { answering.task.cancel() }
    state = .closing
    owner.forget(transport)
  }

  /// When what is awaited has taken too long; nil where nothing is awaited.
  private var deadline: Int64? {
    switch state {
    case .head(_, let since):
      let isIdle = buffer.isEmpty && requestNumber > 0
      return since + (isIdle ? Self.keepAliveMilliseconds : owner.limits.handshakeMilliseconds)
    case .body(_, _, let since): return since + owner.limits.requestMilliseconds
    case .blocked(let since): return since + 1000
    case .answering(let answering): return answering.since + owner.limits.requestMilliseconds
    case .upgraded, .closing: return nil
    }
  }

  /// Where nothing is awaited, the transport's own time counts.
  var tickDue: Int64 { deadline ?? .max / 2 }

  func tick(now: Int64) {
    guard let deadline, now > deadline else { return }
    switch state {
    case .head: if buffer.isEmpty { close() } else { refuse(AppError(.requestTimeout)) }
    case .body(let head, _, _):
      refuse(
        AppError(.requestTimeout), requestID: RequestIDs.choose(head.headers["x-request-id"]))
    case .answering(let answering):
      answering.task.cancel()
      refuse(AppError(.timedOut), requestID: answering.requestID)
    case .blocked:
      if transport.readerStandsStill(now: now) >= Self.readerMilliseconds { transport.abort() }
      state = .blocked(since: now)
    case .upgraded, .closing: break
    }
  }

  // MARK: Reading

  private func advance() {
    while true {
      switch state {
      case .head(var parser, let since):
        do {
          guard let length = try parser.scan(buffer) else {
            state = .head(parser, since: since)
            return
          }
          let head = try parser.parse(buffer, length: length)
          buffer.removeFirst(length)
          try begin(head)
        } catch {
          refuse(
            AppError(error.code, error.message), requestID: RequestIDs.choose(error.givenID))
          return
        }
      case .body(let head, let length, _):
        guard buffer.count >= length else { return }
        let body = Array(buffer.prefix(length))
        buffer.removeFirst(length)
        answer(head, body: body)
        return
      case .answering, .blocked, .upgraded, .closing: return
      }
    }
  }

  private func begin(_ head: RequestHead) throws(RequestHeadParser.Failure) {
    let length = head.contentLength ?? 0
    guard length <= owner.limits.bodyBytes else {
      throw RequestHeadParser.Failure(
        code: .bodyTooLarge, message: "A body may have \(owner.limits.bodyBytes) bytes.",
        givenID: head.headers["x-request-id"])
    }
    if head.headers["expect"]?.lowercased() == "100-continue", buffer.count < length {
      transport.write(Array("HTTP/1.1 100 Continue\r\n\r\n".utf8))
    }
    if length > 0 { buffer.reserveCapacity(length) }
    state = .body(head, length: length, since: Monotonic.milliseconds)
  }

  // MARK: Answering

  private func answer(_ head: RequestHead, body: [UInt8]) {
    requestNumber += 1
    let number = requestNumber
    let requestID = RequestIDs.choose(head.headers["x-request-id"])
    guard let method = head.method else {
      // Known to no route, and nothing says what else it would want.
      refuse(AppError(.methodNotAllowed), requestID: requestID)
      return
    }
    let request = Request(
      method: method, path: head.path, query: Query(head.query), headers: head.headers, body: body,
      address: transport.peer, isSecure: transport.isSecure, id: requestID, loop: owner.loop,
      credentialSource: nil, authenticated: nil)
    let application = owner.application
    let connection = LoopBound(self, on: owner.loop)
    // Started now, but its first step runs when this function is done: `state` is set by then.
    let task = owner.loop.task {
      let response = await application.respond(to: request)
      connection.value.finish(number, with: response)
    }
    state = .answering(
      Answering(
        method: method, isVersion10: head.isVersion10,
        keepsAlive: head.keepsAlive && !owner.isDraining,
        headers: head.headers, requestID: requestID, since: Monotonic.milliseconds, task: task))
  }

  private func finish(_ number: Int, with response: Response) {
    guard case .answering(let answering) = state, number == requestNumber else { return }
    var response = response
    response.add("x-request-id", answering.requestID)
    if let upgrade = response.upgrade {
      becomeWebSocket(
        upgrade, key: answering.headers["sec-websocket-key"] ?? "", headers: response.headers)
      return
    }
    let keepsAlive = answering.keepsAlive && !owner.isDraining
    transport.write(
      encode(
        response, keepsAlive: keepsAlive, isVersion10: answering.isVersion10,
        omitsBody: answering.method == .head))
    guard keepsAlive else {
      close()
      return
    }
    if transport.queuedBytes > Self.queuedAnswerBytes {
      transport.watchReader()
      state = .blocked(since: Monotonic.milliseconds)
      isReadingPaused = true
      transport.setReading(false)
    } else {
      readNext()
    }
  }

  private func readNext() {
    if owner.isDraining || hasInputEnded, buffer.isEmpty {
      close()
      return
    }
    state = .head(
      RequestHeadParser(maximumBytes: owner.limits.headerBytes), since: Monotonic.milliseconds)
    if isReadingPaused {
      isReadingPaused = false
      transport.setReading(true)
    }
    if buffer.isEmpty { buffer = [] } else { advance() }
  }

  private func becomeWebSocket(
    _ upgrade: WebSocketUpgrade, key: String, headers: [(name: String, value: String)]
  ) {
    state = .upgraded
    let early = buffer
    buffer = []
    let connection = WebSocketConnection(
      owner: owner, transport: transport, place: upgrade.place)
    transport.handler = connection
    if isReadingPaused { transport.setReading(true) }
    connection.open(upgrade, key: key, headers: headers, early: early)
    // Asked for before the drain began, and too late for it.
    if owner.isDraining { connection.drain() }
  }

  /// Answers outside the application and closes: what follows on the connection cannot be trusted.
  private func refuse(_ error: AppError, requestID: String = RequestIDs.make()) {
    owner.refused(error, requestID: requestID, peer: transport.peer)
    var response = Response.failure(error, requestID: requestID)
    response.add("x-request-id", requestID)
    let method: Method? =
      switch state {
      case .answering(let answering): answering.method
      case .body(let head, _, _): head.method
      default: nil
      }
    transport.write(
      encode(response, keepsAlive: false, isVersion10: false, omitsBody: method == .head))
    close()
  }

  private func close() {
    state = .closing
    buffer = []
    transport.close(patience: Self.readerMilliseconds)
  }

  /// Ends an idle connection, for draining; one that answers closes with its answer.
  func drain() {
    if case .head = state, buffer.isEmpty { close() }
  }

  /// Answers what is still under way at the end of draining.
  func giveUp() {
    guard case .answering(let answering) = state else { return }
    answering.task.cancel()
    refuse(AppError(.unavailable, "The server is shutting down."), requestID: answering.requestID)
  }

  private func encode(
    _ response: Response, keepsAlive: Bool, isVersion10: Bool, omitsBody: Bool
  ) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(512 + response.body.count)
    bytes.append(contentsOf: "HTTP/1.1 ".utf8)
    appendDecimal(Int64(response.status), to: &bytes)
    bytes.append(UInt8(ascii: " "))
    bytes.append(contentsOf: reasonPhrase(response.status).utf8)
    bytes.append(contentsOf: "\r\ndate: ".utf8)
    bytes.append(contentsOf: owner.httpDate())
    if response.status != 204 {
      bytes.append(contentsOf: "\r\ncontent-length: ".utf8)
      appendDecimal(Int64(response.body.count), to: &bytes)
    }
    for (name, value) in response.headers {
      bytes.append(contentsOf: "\r\n".utf8)
      bytes.append(contentsOf: name.utf8)
      bytes.append(contentsOf: ": ".utf8)
      bytes.append(contentsOf: value.utf8)
    }
    if !keepsAlive {
      bytes.append(contentsOf: "\r\nconnection: close".utf8)
    } else if isVersion10 {
      bytes.append(contentsOf: "\r\nconnection: keep-alive".utf8)
    }
    bytes.append(contentsOf: "\r\n\r\n".utf8)
    if !omitsBody { bytes.append(contentsOf: response.body) }
    return bytes
  }
}
