internal import Basics
internal import Synchronization

/// A counter of connections per address, so that one client cannot occupy all places. An address is an IPv4 address or
/// a /64 network of IPv6 (`IPAddress.Site`).
final class ConnectionCounter: Sendable {
  private let maximum: Int
  private let counts = Mutex<[IPAddress.Site: Int]>([:])

  init(maximumPerAddress: Int) { maximum = maximumPerAddress }

  /// Counts a connection, which `remove` undoes. Returns false, without counting it, if the address has reached its
  /// limit.
  func add(_ site: IPAddress.Site) -> Bool {
    counts.withLock { counts in
      let count = counts[site] ?? 0
      guard count < maximum else { return false }
      counts[site] = count + 1
      return true
    }
  }

  func remove(_ site: IPAddress.Site) {
    counts.withLock { counts in
      guard let count = counts[site] else { return }
      counts[site] = count > 1 ? count - 1 : nil
    }
  }

  /// Counts one WebSocket of a client behind a proxy for as long as the returned permit is retained. Throws
  /// `too_many_connections`.
  func take(_ address: IPAddress) throws(AppError) -> Permit {
    let site = address.site
    guard add(site) else { throw AppError(.tooManyConnections) }
    return Permit(site: site, counter: self)
  }

  final class Permit: Sendable {
    private let site: IPAddress.Site
    private let counter: ConnectionCounter

    fileprivate init(site: IPAddress.Site, counter: ConnectionCounter) {
      self.site = site
      self.counter = counter
    }

    deinit { counter.remove(site) }
  }
}
