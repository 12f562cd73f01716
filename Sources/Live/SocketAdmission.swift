internal import Synchronization

/// Who may have one of the server's WebSockets. When the public comes in crowds to look at a page, as it does
/// when something is broken, the people who repair it still get in.
package final class SocketAdmission: Sendable {
  /// Who a socket is for.
  package enum Audience: Int, Sendable, CaseIterable {
    /// Someone who has shown who they are, or is about to.
    case member
    /// A reader of public pages.
    case viewer
  }

  private let capacity: Int
  private let forViewers: Int
  private let counts = Mutex<[Int]>(Array(repeating: 0, count: Audience.allCases.count))

  /// One in so many sockets is kept for members.
  private static let memberShare = 4

  /// - Parameter capacity: how many sockets the server can hold, at least 1.
  package init(capacity: Int) {
    self.capacity = capacity
    forViewers = capacity - capacity / Self.memberShare
  }

  /// A place for one socket; nil where there is none left for this audience.
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

  /// One socket's place, held as long as the socket.
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
