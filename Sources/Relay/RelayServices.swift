package import Access
package import Basics
package import Chat
package import Events
internal import Live
internal import Synchronization

/// What every socket of a node needs, shared by all loops.
package final class RelayServices: Sendable {
  let ingest: any Ingest
  let authenticator: any Authenticator
  let memberships: any Memberships
  let configuration: RelayConfiguration
  /// This node, which is named in the origin of its drafts.
  let node: NodeID
  /// The name of the present log. A restored backup gets another one, which makes cursors of the old log invalid.
  var epoch: String { currentEpoch.withLock { $0 } }
  private let currentEpoch: Mutex<String>
  private let events: EventStream
  let log: Log
  let metrics: RelayMetrics
  /// Nil if rate limits are off.
  let userFrames: KeyedRateLimiter<UserID>?
  private let connectionsByUser = Mutex<[UserID: Int]>([:])

  package init(
    ingest: any Ingest, authenticator: any Authenticator, memberships: any Memberships,
    configuration: RelayConfiguration, node: NodeID, epoch: String, events: EventStream, log: Log,
    metrics: RelayMetrics
  ) {
    self.ingest = ingest
    self.authenticator = authenticator
    self.memberships = memberships
    self.configuration = configuration
    self.node = node
    currentEpoch = Mutex(epoch)
    self.events = events
    self.log = log
    self.metrics = metrics
    userFrames = configuration.userFrames.map { KeyedRateLimiter($0) }
  }

  /// From now on calls `listener` with all events, on the committing thread. Must be called before the first
  /// publication.
  func listen(_ listener: @escaping EventStream.Listener) { events.listen(listener) }

  /// Logs why a socket's token was refused, without the token's content.
  func logRefusal(_ error: any Error, _ address: IPAddress) {
    guard let failure = error as? AppError, failure.code == .invalidToken else { return }
    log.info(
      "token_refused",
      [
        "address": .init(address),
        "reason": .string(failure.underlying.map { "\($0)" } ?? failure.message),
      ])
  }

  /// From now on the log has another epoch.
  package func epochChanged(to epoch: String) { currentEpoch.withLock { $0 = epoch } }

  /// Something in the database is older than what this node already knew: a dump was restored over the database
  /// without `martlet renew-epoch`. This node forgets everything it knows, and clients have to connect again.
  func databaseWentBack() {
    log.error("database_went_back", [:])
    events.deliverHere([.epochChanged(epoch)])
  }

  /// Counts a connection of the user. Returns false if the user has too many already.
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
