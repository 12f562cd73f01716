internal import Basics

/// How a WebSocket ended, for the log.
struct SocketEnding {
  /// Who closed it, with the code that was sent (RFC 6455, 7.4).
  enum Reason {
    case server(UInt16)
    /// Nil if there was no code.
    case client(UInt16?)
  }

  let requestID: String
  let address: IPAddress
  /// Nil if the connection was lost or cut.
  let reason: Reason?
  let milliseconds: Int64
  /// The number of messages that the client sent.
  let messages: Int
}
