package import Basics
package import EventLoop

/// The codes that this server closes WebSockets with (RFC 6455, 7.4).
package struct CloseCode: Sendable, Equatable {
  package let number: UInt16
  package let reason: String

  package init(_ number: UInt16, _ reason: String) {
    self.number = number
    self.reason = reason
  }

  package static let normal = CloseCode(1000, "")
  package static let draining = CloseCode(1001, "server is going away")
  /// The server cannot serve the socket now: as when it drains, the client comes back.
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

/// What a protocol on a WebSocket does: the two dialects of the relay, and later others.
/// Everything is called on the socket's loop.
package protocol WebSocketHandler: AnyObject {
  /// The handshake is done; frames may be sent from here on.
  func opened()
  /// A whole text message, valid UTF-8; the bytes are gone after the call.
  func received(text: UnsafeRawBufferPointer)
  func receivedBinary()
  /// Everything that was sent, and had to wait, has left.
  func drained()
  /// Whether what was sent, and had to wait, may leave now. Where it may not, `resumeWriting` is called
  /// once it may.
  var mayWrite: Bool { get }
  /// The socket is gone or closing, whoever ended it; nothing more comes or leaves. Called once.
  func closed()
  /// Called when `tickDue` has come, or earlier.
  func tick(now: Int64)
  /// The next moment that something is to be looked at, by `Monotonic.milliseconds`. Where it comes nearer,
  /// `WebSocket.tick(by:)` has to be told.
  var tickDue: Int64 { get }
}

/// The switch of a request to a WebSocket, as a route's handler returns it.
package struct WebSocketUpgrade: Sendable {
  /// The subprotocol that was chosen of those offered, or nil.
  package let subprotocol: String?
  /// The client's, also behind a trusted proxy.
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

/// One open WebSocket as its protocol sees it. On its loop only.
package final class WebSocket {
  package let loop: Loop
  /// The client's, also behind a trusted proxy.
  package let address: IPAddress
  // Unowned: the connection owns this, and ends it before it goes.
  private unowned let connection: WebSocketConnection
  /// Direct, for the hot path. The transport lets go of its protocol when it closes, which ends the
  /// circle of references.
  private let transport: Transport

  init(connection: WebSocketConnection, transport: Transport, address: IPAddress) {
    self.connection = connection
    self.transport = transport
    loop = transport.loop
    self.address = address
  }

  /// False from the moment that either side closes.
  package private(set) var isOpen = true

  /// For those who send the same to many.
  package var outlet: Outlet { transport.outlet }

  func begin() { outlet.blockers.remove(.closed) }

  func end() {
    isOpen = false
    outlet.blockers.insert(.closed)
  }

  /// Sends whole frames (`WebSocketFrames`), after all that was sent before.
  package func send(frames: UnsafeRawBufferPointer) {
    if isOpen { transport.write(frames) }
  }

  /// As `send(frames:)`; what must wait is kept by reference.
  package func send(frames: SharedBytes, in range: Range<Int>, hasBegun: Bool) {
    if isOpen { transport.write(frames, in: range, hasBegun: hasBegun) }
  }

  /// Stops or resumes reading: while it is stopped the client's frames wait on its side.
  package func setReading(_ isReading: Bool) { if isOpen { transport.setReading(isReading) } }

  /// Bytes that wait for the reader.
  package var queuedBytes: Int { isOpen ? transport.queuedBytes : 0 }

  /// The handler's `tick` is to be called at this moment, if not earlier.
  package func tick(by moment: Int64) { if isOpen { connection.tick(by: moment) } }

  /// `mayWrite` has become true: what waited goes on its way.
  package func resumeWriting() { if isOpen { transport.resumeWriting() } }

  /// Starts the closing handshake; what is queued leaves first, unless the reader is too slow for it,
  /// or may not have it any more.
  package func close(_ code: CloseCode) {
    if isOpen { connection.close(code, dropsQueue: code == .slowReader || code == .revoked) }
  }
}
