internal import Basics
internal import Events

/// The people who have sockets on other nodes, as those nodes report. A value without a clock: `now` is a time of
/// `Monotonic.milliseconds`.
struct RemotePresence {
  private struct Node {
    /// The number that the node's next report has.
    var next: UInt64
    var heardAt: Int64
    /// Nobody who is offline.
    var people: [UserID: PresenceState] = [:]
  }

  private var nodes: [NodeID: Node] = [:]

  /// The people of a node that reports nothing for this long have no sockets any more.
  static let silenceMilliseconds: Int64 = 30_000

  /// What the other nodes know about a person; nil if nothing.
  func state(of user: UserID) -> PresenceState? {
    var found: PresenceState?
    for node in nodes.values {
      if let state = node.people[user] { found = found?.joined(with: state) ?? state }
    }
    return found
  }

  /// Takes a report. Returns the people whom it concerns. Returns nil, and takes nothing, if an earlier report of that
  /// node is missing: the node has to be asked for everything.
  mutating func take(_ report: PresenceReport, now: Int64) -> [PersonPresence]? {
    var gone: [PersonPresence] = []
    if report.isBeginning {
      gone = Self.gone(nodes[report.node]?.people ?? [:])
      nodes[report.node] = Node(next: report.number, heardAt: now)
    }
    guard var node = nodes[report.node], node.next == report.number else { return nil }
    // Removed from the dictionary while it changes, so that its people are not copied.
    nodes[report.node] = nil
    node.next = report.number &+ 1
    node.heardAt = now
    for person in report.people {
      node.people[person.user] = person.state.status == .offline ? nil : person.state
    }
    nodes[report.node] = node
    return gone + report.people
  }

  /// Forgets the nodes that have been silent for too long. Returns their people.
  mutating func advance(to now: Int64) -> [PersonPresence] {
    var gone: [PersonPresence] = []
    for (id, node) in nodes where now >= node.heardAt + Self.silenceMilliseconds {
      gone += Self.gone(node.people)
      nodes[id] = nil
    }
    return gone
  }

  private static func gone(_ people: [UserID: PresenceState]) -> [PersonPresence] {
    people.map { PersonPresence($0, PresenceState(.offline, lastSeenAt: $1.lastSeenAt)) }
  }
}
