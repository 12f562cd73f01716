internal import Basics
internal import EventLoop
internal import TLS

/// One connection to a Redis: opened, let in, then commands and replies. On its loop only.
final class RedisConnection {
  enum Event {
    /// It is open, and the password was taken: commands can be sent.
    case ready
    /// What came in one piece: at least one.
    case replies([RedisReply])
    /// It ended, for this reason, and says no more. Not said after `close`.
    case ended(String)
  }

  private let url: RedisURL
  /// Nil once it is closed.
  private var tell: ((Event) -> Void)?
  private var connection: TCPConnection?
  private let tls: TLSSession?
  /// Between the two.
  private let wire = TLSWire()
  /// What was to be sent before TLS was agreed on.
  private var waitingForTLS: [UInt8] = []
  private let reader: RedisReplyReader
  private var output: [UInt8] = []
  private var isGreeted = false
  /// When something came last, or when the connection stood (`Monotonic.milliseconds`); nil before.
  private(set) var heardAt: Int64?
  private(set) var isReady = false

  /// Begins to connect; `tls` where the URL wants it. Throws `TLSError`.
  init(
    loop: Loop, url: RedisURL, tls: TLSClient?, maximumReplyBytes: Int,
    _ tell: @escaping (Event) -> Void
  ) throws {
    reader = RedisReplyReader(maximumReplyBytes: maximumReplyBytes)
    self.url = url
    self.tell = tell
    self.tls = try url.usesTLS ? tls?.session(with: url.host, on: wire) : nil
    // Weak: the connection may say its last word when this is gone.
    connection = TCPConnection(loop: loop, host: url.host, port: url.port) { [weak self] in
      self?.take($0)
    }
  }

  /// Bytes that wait to be taken by the system.
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

  /// Sends what was gathered, in one piece.
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

  /// Ends it without a word; harmless a second time.
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

  /// The first command tells whether commands are taken at all.
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

  /// What an error of Redis is about, for the log. Nothing of its text: that may repeat what it was sent, the
  /// password included.
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

  /// What the server said; the bytes themselves without TLS. Throws `TLSError`, also where the server ended it.
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
    // What came before the end is not lost with it: the connection ends right behind it.
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
