internal import Basics
internal import Web

extension Hub {
  /// One WebSocket as the hub sees it.
  package final class Connection {
    package let socket: any FrameSink
    /// Unique on this loop, never reused.
    package let number: UInt64
    /// Frames of this turn that are for this connection alone, with what of its topics goes before.
    var own = OwnFrames()
    /// The topic behind whose frames the last of `own` stands: what is held there holds these too, as
    /// long as a topic may be held.
    var follows: Topic?
    /// When the hub first saw what is in `own`, by `Monotonic.nanoseconds`; nil before.
    var pendingSince: UInt64?
    /// Whether what is sent to it waits for `Hub.uncork`.
    var isCorked = false
    /// How many topics it is in.
    var topicCount = 0
    /// Frames of grade `latest` that wait until its reader has taken what was sent before, by topic.
    var latest: [(topic: ObjectIdentifier, frame: [UInt8])] = []

    init(socket: any FrameSink, number: UInt64) {
      self.socket = socket
      self.number = number
    }

    /// The part of the number that rows of topics hold: unique among the connections that are open.
    var key: UInt32 { UInt32(truncatingIfNeeded: number) }

    var isDirty: Bool { socket.outlet.blockers.contains(.ownFrames) }

    /// `longest` in nanoseconds.
    func isHeld(now: UInt64, longest: UInt64) -> Bool {
      let since = pendingSince ?? now
      pendingSince = since
      return follows?.isHeld == true && now < since &+ longest
    }

    /// Keeps the newest state of a topic.
    func keepLatest(_ frame: [UInt8], of topic: Topic) {
      dropLatest(of: topic)
      latest.append((ObjectIdentifier(topic), frame))
    }

    func dropLatest(of topic: Topic) {
      if !latest.isEmpty { latest.removeAll { $0.topic == ObjectIdentifier(topic) } }
    }
  }
}
