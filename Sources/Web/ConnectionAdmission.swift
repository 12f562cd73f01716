internal import Basics

/// Which connections the server takes.
///
/// An address may have so many, trusted proxies any number. In all there are as many places as WebSockets fit the limit of
/// open files. When these are taken, connections without a request go, the oldest first (`WebLoop.makeRoom`); a few more
/// are taken meanwhile, so that a server full of WebSockets can still say so.
final class ConnectionAdmission: Sendable {
  /// How many WebSockets, and how many connections of all kinds before some have to go.
  let places: Int
  private let hardLimit: Int
  private let counter: ConnectionCounter?
  private let proxies: TrustedProxies
  private let open: Gauge
  private let refused: Counter
  private let evicted: Counter

  /// Descriptors kept back for the database, files and what else the process opens.
  private static let reservedDescriptors = 512

  init(configuration: WebConfiguration, openFileLimit: Int, metrics: Metrics) {
    places = max(16, openFileLimit - Self.reservedDescriptors)
    hardLimit = max(32, openFileLimit - Self.reservedDescriptors / 2)
    proxies = TrustedProxies(configuration.trustedProxies)
    counter = configuration.connectionsPerAddress.map { ConnectionCounter(maximumPerAddress: $0) }
    open = metrics.gauge("martlet_connections", "Open TCP connections.")
    refused = metrics.counter(
      "martlet_connections_refused_total", "Connections that were closed as soon as they came.")
    evicted = metrics.counter(
      "martlet_connections_evicted_total",
      "Connections without a request that were closed to make room.")
  }

  /// What a connection that was taken has to give back.
  struct Permit {
    /// Nil where it counts for no address.
    fileprivate let site: IPAddress.Site?
  }

  /// A place for a connection from this address; nil where it is to be closed.
  func admit(_ peer: IPAddress) -> Permit? {
    guard open.current < hardLimit else {
      refused.add()
      return nil
    }
    var site: IPAddress.Site?
    if let counter, !proxies.contains(peer) {
      site = peer.site
      guard counter.add(peer.site) else {
        refused.add()
        return nil
      }
    }
    open.add(1)
    return Permit(site: site)
  }

  func release(_ permit: Permit) {
    open.add(-1)
    if let site = permit.site { counter?.remove(site) }
  }

  /// Connections that have to go.
  var surplus: Int { open.current - places }
  var openCount: Int { open.current }

  func evicted(_ count: Int) { evicted.add(count) }

  /// A place for the WebSocket of a client that a trusted proxy speaks for, whose connections count for nobody; nil for
  /// others. Throws `too_many_connections`.
  func admitWebSocket(
    _ origin: RequestOrigin
  ) throws(AppError) -> ConnectionCounter.Permit? {
    guard origin.isProxied else { return nil }
    return try counter?.take(origin.address)
  }
}
