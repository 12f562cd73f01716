internal import Basics
internal import EventLoop
internal import TLS

/// One connection to a Redis server: opened, authenticated, then commands and replies. Used on its loop only.
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
  /// Nil once the connection is closed.
  private var tell: ((Event) -> Void)?
  private var connection: TCPConnection?
  private let tls: TLSSession?
  /// Connects TLS with the socket.
  private let wire = TLSWire()
  /// Output that waits for the TLS handshake.
  private var waitingForTLS: [UInt8] = []
  private let reader: RedisReplyReader
  private var output: [UInt8] = []
  private var isGreeted = false
  /// When something last arrived, or when the connection was opened (`Monotonic.milliseconds`); nil before.
  private(set) var heardAt: Int64?
  private(set) var isReady = false

  /// Begins to connect, with `tls` if the URL requires it. Throws `TLSError`.
  init(
    loop: Loop, url: RedisURL, tls: TLSClient?, maximumReplyBytes: Int,
    _ tell: @escaping (Event) -> Void
  ) throws {
    reader = RedisReplyReader(maximumReplyBytes: maximumReplyBytes)
    self.url = url
    self.tell = tell
    self.tls = try url.usesTLS ? tls?.session(with: url.host, on: wire) : nil
    // Weak: the socket may report its end when this object is gone.
    connection = TCPConnection(loop: loop, host: url.host, port: url.port) { [weak self] in
      self?.take($0)
    }
  }

  /// The bytes that the system has not accepted yet.
  var queuedBytes: Int { output.count + (connection?.queuedBytes ?? 0) }

  /// Adds a command to what `flush` sends: its name and arguments as bulk strings.
  func send(_ arguments: [[UInt8]]) {
    guard tell != nil else { return }
    output += Array("*\(arguments.count)\r\n".utf8)
    for argument in arguments {
      output += Array("$\(argument.count)\r\n".utf8)
      output += argument
      output += [13, 10]
    }
  }

  /// Sends what was gathered, as one piece.
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

  /// The first command shows whether commands are accepted at all.
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

  /// A safe description of a Redis error for the log. The error's own text is left out, because it may repeat what
  /// was sent, including the password.
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

  /// Decrypts what the server sent; without TLS returns the bytes themselves. Throws `TLSError`, also if the server
  /// ended the connection.
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
    // What arrived before the end is still processed. The connection ends right after it.
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
