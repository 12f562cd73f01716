internal import Basics

/// What the log says of a WebSocket that has ended.
struct SocketEnding {
  /// Who closed it, with the code that was sent (RFC 6455, 7.4).
  enum Reason {
    case server(UInt16)
    /// Nil without a code.
    case client(UInt16?)
  }

  let requestID: String
  let address: IPAddress
  /// Nil where the connection was lost, or cut.
  let reason: Reason?
  let milliseconds: Int64
  /// That the client has sent.
  let messages: Int
}
