internal import Basics

/// The client of a request and whether it uses TLS: the peer, or the client that a trusted proxy names.
struct RequestOrigin: Sendable {
  let address: IPAddress
  let isSecure: Bool
  /// Whether a trusted proxy named the client.
  let isProxied: Bool
}

/// The proxies that are trusted to name their clients.
struct TrustedProxies: Sendable {
  private let ranges: [IPAddress.Range]

  init(_ ranges: [IPAddress.Range]) { self.ranges = ranges }

  func contains(_ address: IPAddress) -> Bool {
    !ranges.isEmpty && ranges.contains { $0.contains(address) }
  }

  /// Behind a trusted proxy the client is the last address that was not added by a trusted proxy.
  func origin(of headers: Headers, peer: IPAddress, isSecure: Bool) -> RequestOrigin {
    guard contains(peer) else {
      return RequestOrigin(address: peer, isSecure: isSecure, isProxied: false)
    }
    var client = peer
    let hops = headers.all("x-forwarded-for").flatMap { $0.split(separator: ",") }
    for hop in hops.reversed() {
      guard let address = IPAddress(String(hop.trimmingBlanks())) else { break }
      client = address
      if !contains(address) { break }
    }
    let scheme = headers["x-forwarded-proto"]?.lowercased()
    return RequestOrigin(
      address: client, isSecure: scheme.map { $0 == "https" } ?? isSecure, isProxied: true)
  }
}
