package import Basics
package import EventLoop

/// A code and reason with which this server closes a WebSocket (RFC 6455, 7.4). Codes from 4000 on are this server's
/// own.
package struct CloseCode: Sendable, Equatable {
  package let number: UInt16
  package let reason: String

  package init(_ number: UInt16, _ reason: String) {
    self.number = number
    self.reason = reason
  }

  package static let normal = CloseCode(1000, "")
  package static let draining = CloseCode(1001, "server is going away")
  /// The server cannot serve the socket now. The client is expected to reconnect, as after a drain.
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

/// A protocol on top of a WebSocket, such as the two dialects of the relay. All calls are on the socket's loop.
package protocol WebSocketHandler: AnyObject {
  /// Called once, when the handshake is complete. Frames may be sent from now on.
  func opened()
  /// Receives a complete text message of valid UTF-8. The bytes are valid during the call only.
  func received(text: UnsafeRawBufferPointer)
  /// Called when a binary message has arrived. Its content is not passed on.
  func receivedBinary()
  /// Called when a ping has arrived. It is answered without the handler.
  func receivedPing()
  /// Called when everything that was queued has been passed to the kernel.
  func drained()
  /// Whether queued bytes may be sent now. If this is false, the handler must call `WebSocket.resumeWriting` when it
  /// becomes true.
  var mayWrite: Bool { get }
  /// Called once, when the socket is closing or has ended, no matter which side ended it. Nothing more is received or
  /// sent.
  func closed()
  /// Called when `tickDue` has come, or earlier.
  func tick(now: Int64)
  /// The time of `Monotonic.milliseconds` at which the handler needs a tick. If it becomes earlier, the handler must
  /// call `WebSocket.tick(by:)`.
  var tickDue: Int64 { get }
}

extension WebSocketHandler {
  package func receivedPing() {}
}

/// A request's upgrade to a WebSocket, which a route's handler returns.
package struct WebSocketUpgrade: Sendable {
  /// The subprotocol that was chosen from those that the client offered, or nil.
  package let subprotocol: String?
  /// The client's address, also behind a trusted proxy.
  let address: IPAddress
  let makeHandler: @Sendable (WebSocket) -> any WebSocketHandler

  /// `makeHandler` is called once, on the socket's loop.
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
  // Unowned: the connection owns this object, and calls `end` before it is released itself.
  private unowned let connection: WebSocketConnection
  /// A direct reference to the transport, for the hot path. The transport releases its protocol when it closes, which
  /// breaks the reference cycle.
  private let transport: Transport

  init(connection: WebSocketConnection, transport: Transport, address: IPAddress) {
    self.connection = connection
    self.transport = transport
    loop = transport.loop
    self.address = address
  }

  /// False as soon as either side has begun to close.
  package private(set) var isOpen = true

  /// The shortcut to the socket for fan-out, which sends the same bytes to many connections.
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

  /// Sends a range of a shared batch of frames. Bytes that have to wait are queued by reference instead of copied.
  /// `hasBegun` means that a part of the first frame has already been sent.
  package func send(frames: SharedBytes, in range: Range<Int>, hasBegun: Bool) {
    if isOpen { transport.write(frames, in: range, hasBegun: hasBegun) }
  }

  /// Stops or resumes reading. While reading is stopped, TCP flow control holds the frames back on the client's side.
  package func setReading(_ isReading: Bool) { if isOpen { transport.setReading(isReading) } }

  /// The number of bytes that are queued because the kernel has not accepted them yet; 0 once the socket is closing.
  package var queuedBytes: Int { isOpen ? transport.queuedBytes : 0 }

  /// Requests a call of the handler's `tick` at this moment of `Monotonic.milliseconds`, unless one comes earlier.
  package func tick(by moment: Int64) { if isOpen { connection.tick(by: moment) } }

  /// Resumes sending queued bytes. Must be called when the handler's `mayWrite` has become true.
  package func resumeWriting() { if isOpen { transport.resumeWriting() } }

  /// Starts the closing handshake. Queued bytes are sent first, unless the client reads too slowly (`slowReader`), or
  /// must not receive them any more (`revoked`, or `mayWrite` is false).
  package func close(_ code: CloseCode) {
    if isOpen { connection.close(code, dropsQueue: code == .slowReader || code == .revoked) }
  }
}
