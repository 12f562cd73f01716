internal import Basics

/// The admission control for connections: decides which ones the server accepts.
///
/// The number of connections per address is limited, except for trusted proxies. The total is limited too: the limit of
/// open files, minus a reserve, gives the number of places. When all places are taken, idle connections (those without
/// a request) are closed, oldest first (`WebLoop.makeRoom`). Some hundred connections beyond the places are still
/// accepted, so that a server full of WebSockets can answer that it is full.
final class ConnectionAdmission: Sendable {
  /// The number of WebSockets that fit. When there are more connections than this, of all kinds, idle ones are closed.
  let places: Int
  /// The most connections of all kinds. It is above `places`, so that a server full of WebSockets still has
  /// connections on which it can answer.
  private let hardLimit: Int
  private let counter: ConnectionCounter?
  private let proxies: TrustedProxies
  private let open: Gauge
  private let refused: Counter
  private let evicted: Counter

  /// The file descriptors reserved for the database, files and everything else that the process opens.
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

  /// The place that an accepted connection occupies. Must be passed to `release` when the connection is closed.
  struct Permit {
    /// The address that the connection is counted for; nil if it is not counted per address.
    fileprivate let site: IPAddress.Site?
  }

  /// Returns a permit for a connection from this address, or nil if the connection must be closed.
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

  /// The number of connections beyond `places`, which should be closed; 0 or negative while there are free places.
  var surplus: Int { open.current - places }
  var openCount: Int { open.current }

  func evicted(_ count: Int) { evicted.add(count) }

  /// Returns a permit for the WebSocket of a client behind a trusted proxy. It is counted for the client's address,
  /// because the proxy's own connections are not counted. Returns nil for clients without a proxy, whose connection is
  /// counted already, and if there is no limit. Throws `too_many_connections`.
  func admitWebSocket(
    _ origin: RequestOrigin
  ) throws(AppError) -> ConnectionCounter.Permit? {
    guard origin.isProxied else { return nil }
    return try counter?.take(origin.address)
  }
}
