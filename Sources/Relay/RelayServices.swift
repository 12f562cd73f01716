package import Access
package import Basics
package import Chat
package import Events
internal import Live
package import Presence
internal import Synchronization

/// The services that all sockets of a node share, on all event loops.
package final class RelayServices: Sendable {
  let ingest: any Ingest
  let authenticator: any Authenticator
  let memberships: any Memberships
  let configuration: RelayConfiguration
  /// The id of this node, which is part of the origin of its drafts.
  let node: NodeID
  /// The epoch: the name of the present log. A restored backup gets another one, which makes cursors of the old log
  /// invalid.
  var epoch: String { currentEpoch.withLock { $0 } }
  private let currentEpoch: Mutex<String>
  private let events: EventStream
  let presence: Presence
  let log: Log
  let metrics: RelayMetrics
  /// The rate limiter of each user's frames; nil means no limit.
  let userFrames: KeyedRateLimiter<UserID>?
  private let connectionsByUser = Mutex<[UserID: Int]>([:])

  package init(
    ingest: any Ingest, authenticator: any Authenticator, memberships: any Memberships,
    configuration: RelayConfiguration, node: NodeID, epoch: String, events: EventStream,
    presence: Presence, log: Log, metrics: RelayMetrics
  ) {
    self.ingest = ingest
    self.authenticator = authenticator
    self.memberships = memberships
    self.configuration = configuration
    self.node = node
    currentEpoch = Mutex(epoch)
    self.events = events
    self.presence = presence
    self.log = log
    self.metrics = metrics
    userFrames = configuration.userFrames.map { KeyedRateLimiter($0) }
  }

  /// Calls `listener` with all events from now on, on the thread that publishes them. Must be called before the first
  /// publication.
  func listen(_ listener: @escaping EventStream.Listener) { events.listen(listener) }

  /// Sends signals to this node and others.
  func tell(_ signals: [Signal]) { events.publish(signals.map { .signal($0) }) }

  /// Logs why a socket's token was refused, without the token's content. Logs nothing for other errors.
  func logRefusal(_ error: any Error, _ address: IPAddress) {
    guard let failure = error as? AppError, failure.code == .invalidToken else { return }
    log.info(
      "token_refused",
      [
        "address": .init(address),
        "reason": .string(failure.underlying.map { "\($0)" } ?? failure.message),
      ])
  }

  /// Notes that the log has another epoch from now on.
  package func epochChanged(to epoch: String) { currentEpoch.withLock { $0 = epoch } }

  /// Reports that something in the database is older than what this node already knew: a dump was restored over the
  /// database without `martlet renew-epoch`. This node then forgets everything it knows, and clients have to connect
  /// again.
  func databaseWentBack() {
    log.error("database_went_back", [:])
    events.deliverHere([.epochChanged(epoch)])
  }

  /// Counts a new connection of the user. Returns false, and counts nothing, if the user has too many already.
  func openConnection(of user: UserID) -> Bool {
    connectionsByUser.withLock { counts in
      let count = counts[user] ?? 0
      if let most = configuration.connectionsPerUser, count >= most { return false }
      counts[user] = count + 1
      return true
    }
  }

  func closeConnection(of user: UserID) {
    connectionsByUser.withLock { counts in
      guard let count = counts[user] else { return }
      counts[user] = count > 1 ? count - 1 : nil
    }
  }
}
