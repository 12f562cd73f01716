package import Basics

/// How present a person is. Ordered: of several nodes the highest counts.
package enum PresenceStatus: UInt8, Sendable, Comparable {
  /// No socket is open, and has been none for 30 s.
  case offline
  /// A socket is open, and none has sent anything in 5 minutes.
  case away
  /// A socket is open and has sent something in 5 minutes.
  case online

  package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

  /// As frames spell it.
  package var word: String {
    switch self {
    case .offline: "offline"
    case .away: "away"
    case .online: "online"
    }
  }
}

/// What others are told about a person.
package struct PresenceState: Sendable, Equatable {
  package let status: PresenceStatus
  /// When an open socket last sent something or the last one closed; nil if that is not known, or not to be told.
  package let lastSeenAt: Timestamp?

  package init(_ status: PresenceStatus, lastSeenAt: Timestamp? = nil) {
    self.status = status
    self.lastSeenAt = lastSeenAt
  }

  /// What is told about people who are not here, and about those who hide whether they are.
  package static let unknown = PresenceState(.offline)

  /// Joins what two nodes know about a person.
  func joined(with other: PresenceState) -> PresenceState {
    let times = [lastSeenAt, other.lastSeenAt].compactMap(\.self)
    return PresenceState(max(status, other.status), lastSeenAt: times.max())
  }
}

/// A person and what others are told about them.
package struct PersonPresence: Sendable, Equatable {
  package let user: UserID
  package let state: PresenceState

  package init(_ user: UserID, _ state: PresenceState) {
    self.user = user
    self.state = state
  }
}
