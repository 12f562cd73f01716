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
  /// This node, for the origins of drafts.
  let node: NodeID
  /// Names this log: a restored backup gets another one, and no cursor of the old one counts.
  var epoch: String { currentEpoch.withLock { $0 } }
  private let currentEpoch: Mutex<String>
  private let events: EventStream
  let log: Log
  let metrics: RelayMetrics
  /// Nil where rates are off.
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

  /// Tells of all events from now on, on the thread that committed. Before the first publication.
  func listen(_ listener: @escaping EventStream.Listener) { events.listen(listener) }

  /// Says why a token that a socket showed was not taken, without its content.
  func logRefusal(_ error: any Error, _ address: IPAddress) {
    guard let failure = error as? AppError, failure.code == .invalidToken else { return }
    log.info(
      "token_refused",
      [
        "address": .init(address),
        "reason": .string(failure.underlying.map { "\($0)" } ?? failure.message),
      ])
  }

  /// The log is another one from now on.
  package func epochChanged(to epoch: String) { currentEpoch.withLock { $0 = epoch } }

  /// Something in the database is older than what this node knew before it asked: a dump was restored
  /// over it, and nobody said so (`martlet renew-epoch`). What is known here is forgotten, and clients
  /// come back.
  func databaseWentBack() {
    log.error("database_went_back", [:])
    events.deliverHere([.epochChanged(epoch)])
  }

  /// Counts a connection of the user; false where there are too many already.
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
