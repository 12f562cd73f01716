internal import Basics

/// The way in which a WebSocket ended, for the log.
struct SocketEnding {
  /// The side that closed the socket, with the close code that it sent (RFC 6455, 7.4).
  enum Reason {
    case server(UInt16)
    /// Nil if the client's close frame had no code.
    case client(UInt16?)
  }

  let requestID: String
  let address: IPAddress
  /// Nil if the connection was lost or cut without a close frame.
  let reason: Reason?
  let milliseconds: Int64
  /// The number of complete messages that the client sent.
  let messages: Int
}
