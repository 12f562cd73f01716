package import Basics
internal import Synchronization

/// Counts WebSockets per address, so that one client cannot take them all.
package final class ConnectionCounter: Sendable {
  private let maximum: Int
  private let counts = Mutex<[IPAddress.Site: Int]>([:])

  package init(maximumPerAddress: Int) { maximum = maximumPerAddress }

  /// A place for one WebSocket; given back when it is let go. Throws `too_many_connections`.
  package func take(_ address: IPAddress) throws(AppError) -> Place {
    let site = address.site
    let isFree = counts.withLock { counts in
      let count = counts[site] ?? 0
      guard count < maximum else { return false }
      counts[site] = count + 1
      return true
    }
    guard isFree else { throw AppError(.tooManyConnections) }
    return Place(site: site, counter: self)
  }

  private func giveBack(_ site: IPAddress.Site) {
    counts.withLock { counts in
      guard let count = counts[site] else { return }
      counts[site] = count > 1 ? count - 1 : nil
    }
  }

  /// One WebSocket's place, held as long as the socket.
  package final class Place: Sendable {
    private let site: IPAddress.Site
    private let counter: ConnectionCounter

    fileprivate init(site: IPAddress.Site, counter: ConnectionCounter) {
      self.site = site
      self.counter = counter
    }

    deinit { counter.giveBack(site) }
  }
}
