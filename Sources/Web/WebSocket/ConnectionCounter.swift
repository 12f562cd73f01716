package import Basics
internal import Synchronization

/// Counts WebSockets per address, so that one client cannot take them all.
package final class ConnectionCounter: Sendable {
  private let maximum: Int
  private let counts = Mutex<[IPAddress: Int]>([:])

  package init(maximumPerAddress: Int) { maximum = maximumPerAddress }

  /// A place for one WebSocket; given back when it is let go. Throws `too_many_connections`.
  package func take(_ address: IPAddress) throws(AppError) -> Place {
    let isFree = counts.withLock { counts in
      let count = counts[address] ?? 0
      guard count < maximum else { return false }
      counts[address] = count + 1
      return true
    }
    guard isFree else { throw AppError(.tooManyConnections) }
    return Place(address: address, counter: self)
  }

  private func giveBack(_ address: IPAddress) {
    counts.withLock { counts in
      guard let count = counts[address] else { return }
      counts[address] = count > 1 ? count - 1 : nil
    }
  }

  /// One WebSocket's place, held as long as the socket.
  package final class Place: Sendable {
    private let address: IPAddress
    private let counter: ConnectionCounter

    fileprivate init(address: IPAddress, counter: ConnectionCounter) {
      self.address = address
      self.counter = counter
    }

    deinit { counter.giveBack(address) }
  }
}
