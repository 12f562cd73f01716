internal import Basics

/// Decides which connections the server accepts.
///
/// The connections of an address are limited; those of trusted proxies are not. In total there are as many places as
/// the limit of open files allows for WebSockets. When all places are taken, connections without a request are
/// closed, oldest first (`WebLoop.makeRoom`). A few more are accepted meanwhile, so that a server full of WebSockets
/// can still answer that it is full.
final class ConnectionAdmission: Sendable {
  /// The number of WebSockets that fit. Beyond as many connections of all kinds, some have to be closed.
  let places: Int
  private let hardLimit: Int
  private let counter: ConnectionCounter?
  private let proxies: TrustedProxies
  private let open: Gauge
  private let refused: Counter
  private let evicted: Counter

  /// Descriptors reserved for the database, files and everything else that the process opens.
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

  /// The place of an accepted connection.
  struct Permit {
    /// Nil if it does not count for any address.
    fileprivate let site: IPAddress.Site?
  }

  /// A permit for a connection from this address, or nil if it must be closed.
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

  /// The number of connections that must be closed.
  var surplus: Int { open.current - places }
  var openCount: Int { open.current }

  func evicted(_ count: Int) { evicted.add(count) }

  /// A permit for the WebSocket of a client behind a trusted proxy, because the proxy's connections count for no
  /// address. Nil for other clients. Throws `too_many_connections`.
  func admitWebSocket(
    _ origin: RequestOrigin
  ) throws(AppError) -> ConnectionCounter.Permit? {
    guard origin.isProxied else { return nil }
    return try counter?.take(origin.address)
  }
}
