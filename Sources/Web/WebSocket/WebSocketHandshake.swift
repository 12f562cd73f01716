internal import Basics

/// The server's checks of a WebSocket handshake (RFC 6455, 4.2.1).
enum WebSocketHandshake {
  /// Checks a request for an upgrade. Throws `AppError`: 426 if it does not ask for a WebSocket of version 13, 400 if
  /// it has a body or an invalid key.
  static func check(_ request: Request) throws(AppError) {
    // After the upgrade, the bytes behind the head are read as frames, so there cannot be a body.
    guard request.body.length == 0 else {
      throw AppError(.badRequest, "A request for a WebSocket has no body.")
    }
    guard request.isWebSocketUpgrade, request.headers["sec-websocket-version"] == "13" else {
      throw AppError(.upgradeRequired)
    }
    guard let key = request.headers["sec-websocket-key"], key.utf8.count == 24, key.hasSuffix("=="),
      key.utf8.dropLast(2).allSatisfy({
        switch $0 {
        case 48...57, 65...90, 97...122, UInt8(ascii: "+"), UInt8(ascii: "/"): true
        default: false
        }
      })
    else { throw AppError(.badRequest, "The Sec-WebSocket-Key is malformed.") }
  }
}

extension Request {
  /// Whether the client offers this subprotocol (RFC 6455, section 4.1).
  package func offers(subprotocol: String) -> Bool {
    headers.list("sec-websocket-protocol", contains: subprotocol)
  }
}
