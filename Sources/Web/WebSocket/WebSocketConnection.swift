internal import Basics
internal import EventLoop
internal import TLS

/// The WebSocket protocol (RFC 6455) on one transport: handshake, frames, pings, and the closing handshake. Used on
/// its loop only.
final class WebSocketConnection: TransportHandler {
  // Unowned: the loop closes its connections before it is released.
  private unowned let owner: WebLoop
  /// The transport releases its protocol when it is closed, which breaks the reference cycle.
  private let transport: Transport
  /// Counts the socket for its client's address until this object is released.
  private let permit: ConnectionCounter.Permit?
  private var decoder: WebSocketDecoder
  /// The share of the memory budget for the bytes that `decoder` holds; nil while there are few of them.
  private var lease: BufferLease?
  private var socket: WebSocket?
  private var handler: (any WebSocketHandler)?
  private var state = State.open
  private let requestID: String
  private let openedAt = Monotonic.milliseconds
  /// The number of complete messages from the client.
  private var messageCount = 0
  /// Why the socket ended; nil while it is open, and if the connection was lost or cut.
  private var ending: SocketEnding.Reason?
  private var lastReceived = Monotonic.milliseconds
  private var isPingSent = false
  private var unansweredPing: [UInt8]?

  private enum State {
    case open
    /// This side has sent its close frame, and waits for the peer's until this moment.
    case closing(until: Int64)
    case ended
  }

  /// A ping is sent after the first of these silences, and the connection is closed after the second.
  private static let pingAfterMilliseconds: Int64 = 25_000
  private static let deadAfterMilliseconds: Int64 = 60_000
  private static let closeMilliseconds: Int64 = 3_000
  /// How long the peer may read none of the last bytes before the connection is cut.
  private static let flushMilliseconds: Int64 = 5_000
  /// The GUID that the handshake's answer is computed from (RFC 6455, 4.2.2).
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

  /// Completes the handshake and makes the handler. `key` is the client's `Sec-WebSocket-Key`. `headers` are sent in
  /// addition to the handshake's own. `early` holds the bytes that the client has sent after its request; they are
  /// processed as frames.
  func open(
    _ upgrade: WebSocketUpgrade, key: String, headers: [(name: String, value: String)],
    early: [UInt8]
  ) {
    // Held back, so that it is sent together with the protocol's first frames.
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

  /// Returns the response head that completes the handshake (RFC 6455, 4.2.2).
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

  /// Tells the handler that the socket has ended. Calling it again does nothing.
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
      // No more frames are processed, so the decoder's memory is released.
      decoder = WebSocketDecoder(maximumMessageBytes: 0)
      lease = nil
    }
  }

  /// Ends the socket at once. Sends a close frame with this code, unless the socket is closing already.
  private func refuse(_ code: CloseCode) {
    guard case .open = state else {
      finish()
      return
    }
    ending = .server(code.number)
    owner.webSocketDropped(code)
    finish(WebSocketFrames.close(code: code.number, reason: code.reason))
  }

  /// Adjusts the lease to the memory that an unfinished message takes. Returns the code to close with if the budget
  /// has no room: `tooBig` if one address may never hold that much, otherwise `unavailable`.
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

  /// Answers the last ping, if it is unanswered. Of several pings in a row only the last is answered, as RFC 6455,
  /// 5.5.3 allows. A client that sends pings without reading gets no more answers.
  private func answerPing() {
    guard let payload = unansweredPing else { return }
    unansweredPing = nil
    guard case .open = state, transport.queuedBytes < Self.queuedPongBytes else { return }
    transport.write(WebSocketFrames.pong(payload))
  }

  /// Called when the peer has shut down its sending side. If the socket has not ended, there was no close frame to
  /// answer.
  func inputEnded() {
    guard !isEnded else { return }
    // Nothing is owed to a peer that ends without a close frame. When the handler has ended, a later revocation does not
    // reach this connection any more, so nothing may be left in its queue.
    transport.discardQueue()
    finish()
  }

  private var isEnded: Bool { if case .ended = state { true } else { false } }

  private func handle(_ event: WebSocketDecoder.Event) {
    guard case .open = state else {
      // After this side's close frame only the peer's close frame matters.
      if case .close = event { finish() }
      return
    }
    if case .ping(let payload) = event {
      unansweredPing = payload
      handler?.receivedPing()
      return
    }
    // A pong must precede whatever this event causes to be sent.
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
      // The client wants nothing more, and a later revocation would not reach the queue any more.
      transport.discardQueue()
      finish(
        code.map { WebSocketFrames.close(code: $0, reason: "") }
          ?? WebSocketFrames.control(opcode: 8, []))
    case .failure(let code, let reason):
      ending = .server(code)
      finish(WebSocketFrames.close(code: code, reason: "\(reason)"))
    }
  }

  /// Ends the socket at once, with this frame as the last. Queued bytes that must not be sent now are discarded,
  /// except for the rest of a frame that was sent in part.
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

  /// True once the handler has ended. Before a close frame is queued, `close` and `finish(_:)` have discarded the
  /// bytes that must not be sent.
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

  /// Requests a call of `tick` at this moment, unless one comes earlier.
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

  /// Closes the socket with code 1001 for the drain. Does nothing if it is closing already.
  func drain() { close(.draining) }
}
