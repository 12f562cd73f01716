package import Basics
package import EventLoop

/// The codes with which this server closes WebSockets (RFC 6455, 7.4).
package struct CloseCode: Sendable, Equatable {
  package let number: UInt16
  package let reason: String

  package init(_ number: UInt16, _ reason: String) {
    self.number = number
    self.reason = reason
  }

  package static let normal = CloseCode(1000, "")
  package static let draining = CloseCode(1001, "server is going away")
  /// The server cannot serve the socket now. The client reconnects, as after a drain.
  package static let unavailable = CloseCode(1001, "unavailable")
  package static let unsupportedData = CloseCode(1003, "not supported")
  package static let tooBig = CloseCode(1009, "message too big")
  package static let notJSON = CloseCode(4400, "not a JSON object")
  package static let unauthenticated = CloseCode(4401, "token missing, bad or expired")
  package static let revoked = CloseCode(4403, "access was revoked")
  package static let slowReader = CloseCode(4408, "reading too slowly")
  package static let tooManyConnections = CloseCode(4409, "too many connections")
  package static let flooding = CloseCode(4429, "sending too fast")
}

/// A protocol on a WebSocket: the two dialects of the relay, and others later. All calls are on the socket's loop.
package protocol WebSocketHandler: AnyObject {
  /// The handshake is done; frames may be sent from now on.
  func opened()
  /// A complete text message of valid UTF-8. The bytes are valid during the call only.
  func received(text: UnsafeRawBufferPointer)
  func receivedBinary()
  /// Everything that had to wait has been sent.
  func drained()
  /// Whether queued bytes may be sent now. If not, `resumeWriting` must be called once they may.
  var mayWrite: Bool { get }
  /// The socket is gone or closing, whoever ended it. Nothing is received or sent any more. Called once.
  func closed()
  /// Called when `tickDue` has come, or earlier.
  func tick(now: Int64)
  /// When the handler needs a tick, by `Monotonic.milliseconds`. If this becomes earlier, call `WebSocket.tick(by:)`.
  var tickDue: Int64 { get }
}

/// The switch of a request to a WebSocket, returned by a route's handler.
package struct WebSocketUpgrade: Sendable {
  /// The subprotocol chosen from those offered, or nil.
  package let subprotocol: String?
  /// The client's address, also behind a trusted proxy.
  let address: IPAddress
  let makeHandler: @Sendable (WebSocket) -> any WebSocketHandler

  /// `makeHandler` is called on the socket's loop.
  package init(
    subprotocol: String? = nil, address: IPAddress,
    makeHandler: @escaping @Sendable (WebSocket) -> any WebSocketHandler
  ) {
    self.subprotocol = subprotocol
    self.address = address
    self.makeHandler = makeHandler
  }
}

/// An open WebSocket, as its protocol sees it. Used on its loop only.
package final class WebSocket {
  package let loop: Loop
  /// The client's address, also behind a trusted proxy.
  package let address: IPAddress
  // Unowned: the connection owns this object, and ends it before it is released.
  private unowned let connection: WebSocketConnection
  /// A direct reference for the hot path. The transport releases its protocol when it closes, which breaks the
  /// reference cycle.
  private let transport: Transport

  init(connection: WebSocketConnection, transport: Transport, address: IPAddress) {
    self.connection = connection
    self.transport = transport
    loop = transport.loop
    self.address = address
  }

  /// False as soon as either side has begun to close.
  package private(set) var isOpen = true

  /// For fan-outs, which send the same bytes to many.
  package var outlet: Outlet { transport.outlet }

  func begin() { outlet.blockers.remove(.closed) }

  func end() {
    isOpen = false
    outlet.blockers.insert(.closed)
  }

  /// Sends whole frames (`WebSocketFrames`), after everything that was sent before.
  package func send(frames: UnsafeRawBufferPointer) {
    if isOpen { transport.write(frames) }
  }

  /// The same, but what has to wait is kept by reference.
  package func send(frames: SharedBytes, in range: Range<Int>, hasBegun: Bool) {
    if isOpen { transport.write(frames, in: range, hasBegun: hasBegun) }
  }

  /// Stops or resumes reading. While it is stopped, the client's frames wait on the client's side.
  package func setReading(_ isReading: Bool) { if isOpen { transport.setReading(isReading) } }

  /// The number of bytes that wait for the reader.
  package var queuedBytes: Int { isOpen ? transport.queuedBytes : 0 }

  /// Requests a call of the handler's `tick` at this moment, if none comes earlier.
  package func tick(by moment: Int64) { if isOpen { connection.tick(by: moment) } }

  /// `mayWrite` has become true, so queued bytes can be sent.
  package func resumeWriting() { if isOpen { transport.resumeWriting() } }

  /// Starts the closing handshake. Queued bytes are sent first, unless the reader is too slow for them, or may not
  /// have them any more.
  package func close(_ code: CloseCode) {
    if isOpen { connection.close(code, dropsQueue: code == .slowReader || code == .revoked) }
  }
}
