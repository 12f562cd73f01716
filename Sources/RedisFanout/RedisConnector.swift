internal import Basics
internal import EventLoop
internal import TLS

/// Keeps one connection to a Redis server open: reopens it with exponential backoff, and closes it if the server is
/// silent. Used on its loop only.
final class RedisConnector {
  /// Called when commands can be sent.
  var opened: () -> Void = {}
  /// Called when they cannot be sent any more, or could not be from the start. Not after `close`.
  var closed: () -> Void = {}
  /// Called with replies that arrived together. Errors are not passed on: they end the connection.
  var replied: ([RedisReply]) -> Void = { _ in }

  /// The connection's purpose, for the log.
  private let role: StaticString
  private let url: RedisURL
  private let tls: TLSClient?
  private let maximumReplyBytes: Int
  private let loop: Loop
  private let log: Log
  private var connection: RedisConnection?
  private var isClosed = false
  /// Failures since the connection was last established.
  private var failures = 0
  /// The reason of the present outage that was logged last.
  private var loggedReason: String?
  private var openedAt: Int64?
  /// Whether the connection has been open long enough to count as established.
  private var stands = false

  /// A connection that ends earlier counts as a failed attempt: Redis may refuse its commands.
  private static let standingMilliseconds: Int64 = 1000
  /// Silence after which the connection is closed, although a reply is due every second.
  private static let silenceMilliseconds: Int64 = 3000
  /// The pause before the next attempt. It doubles with each failure in a row, up to a maximum. A part of it is
  /// random, so that nodes do not reconnect all at once.
  private static let retryMilliseconds = 100
  private static let longestRetryMilliseconds = 3000

  init(
    _ role: StaticString, _ url: RedisURL, tls: TLSClient?, maximumReplyBytes: Int, loop: Loop,
    log: Log
  ) {
    self.maximumReplyBytes = maximumReplyBytes
    self.role = role
    self.url = url
    self.tls = tls
    self.loop = loop
    self.log = log
  }

  var isOpen: Bool { connection?.isReady == true }
  var queuedBytes: Int { connection?.queuedBytes ?? 0 }

  /// Adds a command to what `flush` sends. Does nothing if the connection is not open.
  func send(_ arguments: [[UInt8]]) { if isOpen { connection?.send(arguments) } }
  func ask(_ arguments: [String]) { send(arguments.map { Array($0.utf8) }) }
  func flush() { if isOpen { connection?.flush() } }

  func open() {
    guard !isClosed else { return }
    do {
      connection = try RedisConnection(
        loop: loop, url: url, tls: tls, maximumReplyBytes: maximumReplyBytes
      ) { [weak self] in self?.take($0) }
    } catch {
      ended("\(error)")
    }
  }

  func close() {
    isClosed = true
    connection?.close()
    connection = nil
  }

  /// Closes the connection and opens another at once.
  func reopen() {
    guard let connection else { return }
    connection.close()
    self.connection = nil
    openedAt = nil
    closed()
    open()
  }

  /// Must be called once a second, after sending something that is answered.
  func tick() {
    guard let connection else { return }
    let now = Monotonic.milliseconds
    if let heardAt = connection.heardAt, now - heardAt > Self.silenceMilliseconds {
      connection.end("nothing was heard of it for \(Self.silenceMilliseconds) ms")
    } else if let openedAt, !stands, now - openedAt >= Self.standingMilliseconds {
      stands = true
      failures = 0
      loggedReason = nil
      log.notice("fanout_connected", ["redis": .init(url.place), "role": .init("\(role)")])
    }
  }

  private func take(_ event: RedisConnection.Event) {
    switch event {
    case .ready:
      openedAt = Monotonic.milliseconds
      opened()
    case .replies(let replies):
      for case .error(let text) in replies {
        connection?.end(RedisConnection.refusal(text))
        return
      }
      replied(replies)
    case .ended(let reason): ended(reason)
    }
  }

  private func ended(_ reason: String) {
    connection = nil
    openedAt = nil
    stands = false
    // Logged once per outage, and again if the reason changes.
    if loggedReason != reason {
      loggedReason = reason
      log.warning(
        "fanout_lost",
        ["redis": .init(url.place), "role": .init("\(role)"), "cause": .init(reason)])
    }
    closed()
    // Five doublings already exceed the maximum, so this cannot overflow.
    let pause = min(Self.retryMilliseconds << min(failures, 5), Self.longestRetryMilliseconds)
    failures += 1
    loop.schedule(after: pause / 2 + Int.random(in: 0...pause / 2)) { [weak self] in self?.open() }
  }
}
