internal import Basics
internal import EventLoop
internal import TLS

/// One connection to a Redis server. It connects and authenticates, then sends commands and receives replies. Used on
/// its loop only.
final class RedisConnection {
  enum Event {
    /// The connection is open and authenticated: commands can be sent.
    case ready
    /// Replies that arrived together; at least one.
    case replies([RedisReply])
    /// The connection has ended for this reason. No further events follow. Not reported after `close`.
    case ended(String)
  }

  private let url: RedisURL
  /// The receiver of events; nil once the connection is closed.
  private var tell: ((Event) -> Void)?
  private var connection: TCPConnection?
  private let tls: TLSSession?
  /// The network side of the TLS session: its encrypted input and output.
  private let wire = TLSWire()
  /// Plain output that waits until the TLS handshake is complete.
  private var waitingForTLS: [UInt8] = []
  private let reader: RedisReplyReader
  private var output: [UInt8] = []
  private var isGreeted = false
  /// When bytes last arrived, or else when the connection was opened, by `Monotonic.milliseconds`; nil before that.
  private(set) var heardAt: Int64?
  private(set) var isReady = false

  /// Begins to connect, with `tls` if the URL requires it. `tell` receives the events, on the loop. Throws `TLSError`.
  init(
    loop: Loop, url: RedisURL, tls: TLSClient?, maximumReplyBytes: Int,
    _ tell: @escaping (Event) -> Void
  ) throws {
    reader = RedisReplyReader(maximumReplyBytes: maximumReplyBytes)
    self.url = url
    self.tell = tell
    self.tls = try url.usesTLS ? tls?.session(with: url.host, on: wire) : nil
    // Weak: the socket may report its end after this object was released.
    connection = TCPConnection(loop: loop, host: url.host, port: url.port) { [weak self] in
      self?.take($0)
    }
  }

  /// The number of bytes that the kernel has not accepted yet. Bytes that wait for the TLS handshake are not counted.
  var queuedBytes: Int { output.count + (connection?.queuedBytes ?? 0) }

  /// Appends a command to the output that `flush` sends: its name and arguments, as bulk strings.
  func send(_ arguments: [[UInt8]]) {
    guard tell != nil else { return }
    output += Array("*\(arguments.count)\r\n".utf8)
    for argument in arguments {
      output += Array("$\(argument.count)\r\n".utf8)
      output += argument
      output += [13, 10]
    }
  }

  /// Sends all commands that were appended since the last call, in one piece.
  func flush() {
    guard !output.isEmpty, let connection else { return }
    let bytes = output
    output.removeAll(keepingCapacity: bytes.count <= 65_536)
    guard let tls else {
      connection.send(bytes)
      return
    }
    guard tls.isEstablished else {
      waitingForTLS += bytes
      return
    }
    do {
      try bytes.withUnsafeBytes { try tls.send($0) }
      sendWire()
    } catch {
      end("\(error)")
    }
  }

  /// Sends what TLS has encrypted.
  private func sendWire() {
    guard !wire.output.isEmpty else { return }
    connection?.send(wire.output)
    wire.output = []
  }

  /// Closes the connection without an event. Calling it again does nothing.
  func close() {
    tell = nil
    isReady = false
    connection?.close()
    connection = nil
  }

  func end(_ reason: String) {
    let tell = tell
    close()
    tell?(.ended(reason))
  }

  private func take(_ event: TCPConnection.Event) {
    switch event {
    case .failed(let reason): end(reason)
    case .connected:
      heardAt = Monotonic.milliseconds
      receive([])
      greet()
    case .received(let bytes):
      heardAt = Monotonic.milliseconds
      receive(bytes)
    }
  }

  /// Sends the first command, `AUTH` or `PING`. Its reply shows whether Redis accepts commands at all.
  private func greet() {
    let greeting =
      if let password = url.password {
        ["AUTH"] + (url.user.map { [$0] } ?? []) + [password.reveal()]
      } else {
        ["PING"]
      }
    send(greeting.map { Array($0.utf8) })
    flush()
  }

  private func greeted(_ reply: RedisReply) {
    isGreeted = true
    switch reply {
    case .status:
      isReady = true
      tell?(.ready)
    case .error(let text): end(Self.refusal(text))
    default: end("no answer of a Redis")
    }
  }

  /// Returns a description of a Redis error that is safe to log. It leaves out the error's own text, which may repeat
  /// the command, including the password.
  static func refusal(_ text: String) -> String {
    let code = text.prefix { $0.isASCII && $0.isLetter && $0.isUppercase }.prefix(32)
    let meaning =
      switch code {
      case "NOAUTH": "it asks for a password"
      case "WRONGPASS": "the user or the password is wrong"
      case "NOPERM": "the user may not publish and subscribe to every channel"
      case "LOADING": "it is starting"
      case "ERR" where text.hasPrefix("ERR max number of clients"): "it has too many clients"
      default: "its own log says why"
      }
    return "Redis refuses: \(code) (\(meaning))"
  }

  /// Decrypts bytes from the server; without TLS, returns them unchanged. Called with no bytes, begins the TLS
  /// handshake. Throws `TLSError`, or `TLSEnded` if the server has ended the TLS session.
  private func decrypt(_ bytes: [UInt8]) throws -> [UInt8] {
    guard let tls else { return bytes }
    defer { sendWire() }
    var plain: [UInt8] = []
    let goesOn = try bytes.withUnsafeBytes {
      try tls.receive($0) { piece in
        plain += piece
        return true
      }
    }
    if tls.isEstablished, !waitingForTLS.isEmpty {
      try waitingForTLS.withUnsafeBytes { try tls.send($0) }
      waitingForTLS = []
    }
    // Data that arrived together with the end is still processed. The socket's own end follows and ends the
    // connection.
    guard goesOn || !plain.isEmpty else { throw TLSEnded() }
    return plain
  }

  private struct TLSEnded: Error, CustomStringConvertible {
    var description: String { "the server ended the TLS session" }
  }

  private func receive(_ bytes: [UInt8]) {
    do {
      let plain = try decrypt(bytes)
      guard !plain.isEmpty else { return }
      var replies = try reader.read(plain)
      if !isGreeted, !replies.isEmpty { greeted(replies.removeFirst()) }
      if !replies.isEmpty { tell?(.replies(replies)) }
    } catch {
      end("\(error)")
    }
  }
}
