internal import Basics
internal import EventLoop
internal import TLS

/// A supervisor that keeps one connection to a Redis server open. It reconnects with exponential backoff, and closes
/// the connection if the server is silent. Used on its loop only.
final class RedisConnector {
  /// Called when commands can be sent.
  var opened: () -> Void = {}
  /// Called when the connection has ended or an attempt to connect has failed, so that commands cannot be sent. Not
  /// called after `close`.
  var closed: () -> Void = {}
  /// Called with replies that arrived together. Error replies are not passed on: they end the connection.
  var replied: ([RedisReply]) -> Void = { _ in }

  /// The connection's purpose (`publisher` or `subscriber`), for the log.
  private let role: StaticString
  private let url: RedisURL
  private let tls: TLSClient?
  private let maximumReplyBytes: Int
  private let loop: Loop
  private let log: Log
  private var connection: RedisConnection?
  private var isClosed = false
  /// The number of failed attempts since the connection was last established.
  private var failures = 0
  /// The reason that was last logged in the current outage; nil if there is none.
  private var loggedReason: String?
  private var openedAt: Int64?
  /// Whether the connection has been open long enough to count as established.
  private var stands = false

  /// How long a connection must be open to count as established. One that ends earlier counts as a failed attempt,
  /// because Redis may refuse its commands.
  private static let standingMilliseconds: Int64 = 1000
  /// How long the server may be silent before the connection is closed. A reply is due every second.
  private static let silenceMilliseconds: Int64 = 3000
  /// The pause before the first new attempt. It doubles with each consecutive failure, up to the maximum below. Up to
  /// half of it is random jitter, so that the nodes do not all reconnect at once.
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

  /// Appends a command to the output that `flush` sends. Does nothing if the connection is not open.
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

  /// Closes the connection and opens another one at once, without backoff. Does nothing while there is no connection,
  /// because the next attempt is already scheduled.
  func reopen() {
    guard let connection else { return }
    connection.close()
    self.connection = nil
    openedAt = nil
    closed()
    open()
  }

  /// Ends a connection whose server has been silent for too long, and notices when it has become established. Must be
  /// called once a second, after a command that Redis answers was sent.
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
    // Log once per outage, and again if the reason changes.
    if loggedReason != reason {
      loggedReason = reason
      log.warning(
        "fanout_lost",
        ["redis": .init(url.place), "role": .init("\(role)"), "cause": .init(reason)])
    }
    closed()
    // Five doublings already exceed the maximum. The bound on the shift prevents an overflow.
    let pause = min(Self.retryMilliseconds << min(failures, 5), Self.longestRetryMilliseconds)
    failures += 1
    loop.schedule(after: pause / 2 + Int.random(in: 0...pause / 2)) { [weak self] in self?.open() }
  }
}
