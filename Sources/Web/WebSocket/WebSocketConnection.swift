internal import Basics
internal import EventLoop
internal import TLS

/// RFC 6455 on one transport: handshake, frames, pings, and the closing handshake.
final class WebSocketConnection: TransportHandler {
  // Unowned: the loop's connections end before it does.
  private unowned let owner: WebLoop
  /// The transport releases its protocol when it is closed, which breaks the reference cycle.
  private let transport: Transport
  /// Returned when this object is released.
  private let permit: ConnectionCounter.Permit?
  private var decoder: WebSocketDecoder
  /// The budget's share for what `decoder` holds; nil while that is little.
  private var lease: BufferLease?
  private var socket: WebSocket?
  private var handler: (any WebSocketHandler)?
  private var state = State.open
  private let requestID: String
  private let openedAt = Monotonic.milliseconds
  /// The number of complete messages from the client.
  private var messageCount = 0
  /// Why the socket ended; nil if the connection was lost.
  private var ending: SocketEnding.Reason?
  private var lastReceived = Monotonic.milliseconds
  private var isPingSent = false
  private var unansweredPing: [UInt8]?

  private enum State {
    case open
    /// The close frame has been sent. The peer's close frame is awaited until this moment.
    case closing(until: Int64)
    case ended
  }

  /// A ping is sent after the first of these silences, and the connection is closed after the second.
  private static let pingAfterMilliseconds: Int64 = 25_000
  private static let deadAfterMilliseconds: Int64 = 60_000
  private static let closeMilliseconds: Int64 = 3_000
  /// How long the peer may take none of the last bytes.
  private static let flushMilliseconds: Int64 = 5_000
  /// The constant of RFC 6455, 4.2.2.
  private static let constant = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
  private static let queuedPongBytes = 16 * 1024

  init(
    owner: WebLoop, transport: Transport, permit: ConnectionCounter.Permit?, requestID: String
  ) {
    self.requestID = requestID
    self.owner = owner
    self.transport = transport
    self.permit = permit
    decoder = WebSocketDecoder(maximumMessageBytes: owner.limits.frameBytes)
  }

  /// Completes the handshake, with these fields besides its own, and processes what the client has sent after its
  /// request.
  func open(
    _ upgrade: WebSocketUpgrade, key: String, headers: [(name: String, value: String)],
    early: [UInt8]
  ) {
    // Held, to leave together with the protocol's first frames.
    transport.hold(answer(to: key, subprotocol: upgrade.subprotocol, headers))
    owner.webSocketOpened()
    let socket = WebSocket(connection: self, transport: transport, address: upgrade.address)
    self.socket = socket
    socket.begin()
    handler = upgrade.makeHandler(socket)
    handler?.opened()
    transport.tick(by: tickDue)
    if !early.isEmpty {
      var bytes = early
      bytes.withUnsafeMutableBytes { received($0) }
    }
  }

  /// The head that completes the handshake (RFC 6455, 4.2.2).
  private func answer(
    to key: String, subprotocol: String?, _ headers: [(name: String, value: String)]
  ) -> [UInt8] {
    var fields: [(name: String, value: String)] = [
      ("upgrade", "websocket"), ("connection", "Upgrade"),
      ("sec-websocket-accept", SHA1.base64(of: Array(key.utf8) + Self.constant.utf8)),
    ]
    if let subprotocol { fields.append(("sec-websocket-protocol", subprotocol)) }
    let head = ResponseHead(
      status: 101, contentLength: nil, isChunked: false, keepsAlive: true, isVersion10: false)
    return head.encode(fields + headers, requestID: requestID, date: owner.httpDate())
  }

  // MARK: Closing

  func close(_ code: CloseCode, dropsQueue: Bool = false) {
    guard case .open = state else { return }
    if dropsQueue || !mayWrite { transport.discardQueue() }
    ending = .server(code.number)
    owner.webSocketDropped(code)
    transport.write(WebSocketFrames.close(code: code.number, reason: code.reason))
    let until = Monotonic.milliseconds + Self.closeMilliseconds
    state = .closing(until: until)
    transport.tick(by: until)
    endProtocol()
  }

  /// Tells the protocol that the socket has ended, once.
  private func endProtocol() {
    socket?.end()
    let handler = handler
    self.handler = nil
    handler?.closed()
  }

  // MARK: TransportHandler

  func received(_ bytes: UnsafeMutableRawBufferPointer) {
    lastReceived = Monotonic.milliseconds
    isPingSent = false
    guard !isEnded else { return }
    decoder.receive(bytes) { event in
      handle(event)
      return !isEnded
    }
    answerPing()
    if let code = holdInput() { refuse(code) }
    if isEnded {
      // Nothing is read any more.
      decoder = WebSocketDecoder(maximumMessageBytes: 0)
      lease = nil
    }
  }

  /// Ends the socket at once, with this code unless it is closing already.
  private func refuse(_ code: CloseCode) {
    guard case .open = state else {
      finish()
      return
    }
    ending = .server(code.number)
    owner.webSocketDropped(code)
    finish(WebSocketFrames.close(code: code.number, reason: code.reason))
  }

  /// Adjusts the budget to what is held of an unfinished message. Returns the close code if the budget has no room.
  private func holdInput() -> CloseCode? {
    let bytes = isEnded ? 0 : decoder.heldBytes
    guard bytes > BufferLease.freeBytes else {
      lease = nil
      return nil
    }
    let address = socket?.address ?? transport.peer
    let lease = lease ?? BufferLease(owner.budget, site: address.site)
    self.lease = lease
    if lease.resize(to: bytes) { return nil }
    return lease.isPossible(bytes) ? .unavailable : .tooBig
  }

  /// Answers only the last of several pings in a row, as RFC 6455, 5.5.3 allows. A client that sends pings without
  /// reading gets no more answers.
  private func answerPing() {
    guard let payload = unansweredPing else { return }
    unansweredPing = nil
    guard case .open = state, transport.queuedBytes < Self.queuedPongBytes else { return }
    transport.write(WebSocketFrames.pong(payload))
  }

  /// There was no close frame, so nobody is to be answered.
  func inputEnded() { if !isEnded { finish() } }

  private var isEnded: Bool { if case .ended = state { true } else { false } }

  private func handle(_ event: WebSocketDecoder.Event) {
    guard case .open = state else {
      // After our close frame only the peer's close frame matters.
      if case .close = event { finish() }
      return
    }
    if case .ping(let payload) = event {
      unansweredPing = payload
      return
    }
    // To keep the order.
    answerPing()
    switch event {
    case .ping: break
    case .text(let text):
      messageCount += 1
      handler?.received(text: text)
    case .binary:
      messageCount += 1
      handler?.receivedBinary()
    case .pong: break
    case .close(let code):
      ending = .client(code)
      finish(
        code.map { WebSocketFrames.close(code: $0, reason: "") }
          ?? WebSocketFrames.control(opcode: 8, []))
    case .failure(let code, let reason):
      ending = .server(code)
      finish(WebSocketFrames.close(code: code, reason: "\(reason)"))
    }
  }

  /// Ends at once, with this frame as the last. Queued bytes that may not be sent now are dropped, except for the
  /// rest of a frame that was sent in part.
  private func finish(_ last: [UInt8]) {
    if !mayWrite { transport.discardQueue() }
    transport.write(last)
    finish()
  }

  private func finish() {
    state = .ended
    endProtocol()
    transport.close(patience: Self.flushMilliseconds)
  }

  /// While closing, only the close frame is left.
  var mayWrite: Bool { handler?.mayWrite ?? true }

  func drained() { handler?.drained() }

  func closed() {
    state = .ended
    endProtocol()
    owner.webSocketClosed()
    owner.application.log.socketEnded(
      SocketEnding(
        requestID: requestID, address: socket?.address ?? transport.peer, reason: ending,
        milliseconds: Monotonic.milliseconds - openedAt, messages: messageCount))
    owner.forget(transport)
  }

  var tickDue: Int64 {
    switch state {
    case .ended: return .max / 2
    case .closing(let until): return until
    case .open:
      let silence = isPingSent ? Self.deadAfterMilliseconds : Self.pingAfterMilliseconds
      return min(lastReceived + silence + 1, handler?.tickDue ?? .max / 2)
    }
  }

  /// The protocol wants a tick at this moment, if none comes earlier.
  func tick(by moment: Int64) { transport.tick(by: moment) }

  func tick(now: Int64) {
    switch state {
    case .ended: break
    case .closing(let until):
      if now >= until { finish() }
    case .open:
      let silence = now - lastReceived
      if silence > Self.deadAfterMilliseconds {
        transport.abort()
        return
      }
      if silence > Self.pingAfterMilliseconds, !isPingSent {
        isPingSent = true
        transport.write(WebSocketFrames.ping())
      }
      handler?.tick(now: now)
    }
  }

  /// For the drain: closes with 1001, once.
  func drain() { close(.draining) }
}
