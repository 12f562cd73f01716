internal import Synchronization

/// Limits the number of WebSockets on the server. A part is reserved for members, so that readers of public pages
/// cannot use up all of them.
package final class SocketAdmission: Sendable {
  /// The kind of user that a socket is for.
  package enum Audience: Int, Sendable, CaseIterable {
    /// A user who has presented a credential, or is about to.
    case member
    /// A reader of public pages.
    case viewer
  }

  private let capacity: Int
  private let forViewers: Int
  private let counts = Mutex<[Int]>(Array(repeating: 0, count: Audience.allCases.count))

  /// One in this many sockets is reserved for members.
  private static let memberShare = 4

  /// - Parameter capacity: the number of sockets that the server can hold; at least 1.
  package init(capacity: Int) {
    self.capacity = capacity
    forViewers = capacity - capacity / Self.memberShare
  }

  /// Returns a permit for one socket, or nil if none is left for this audience.
  package func take(_ audience: Audience) -> Permit? {
    let isFree = counts.withLock { counts in
      guard counts.reduce(0, +) < capacity,
        audience == .member || counts[Audience.viewer.rawValue] < forViewers
      else { return false }
      counts[audience.rawValue] += 1
      return true
    }
    return isFree ? Permit(audience, in: self) : nil
  }

  package func count(of audience: Audience) -> Int { counts.withLock { $0[audience.rawValue] } }

  private func release(_ audience: Audience) {
    counts.withLock { $0[audience.rawValue] -= 1 }
  }

  /// The permit for one socket. Releasing this object gives the permit back.
  package final class Permit: Sendable {
    private let admission: SocketAdmission
    private let audience: Audience

    fileprivate init(_ audience: Audience, in admission: SocketAdmission) {
      self.admission = admission
      self.audience = audience
    }

    deinit { admission.release(audience) }
  }
}
