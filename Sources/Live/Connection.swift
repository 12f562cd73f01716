internal import Basics
internal import Web

extension Hub {
  /// One WebSocket connection, as the hub sees it.
  package final class Connection {
    package let socket: any FrameSink
    /// Unique on this loop and never reused.
    package let number: UInt64
    /// The waiting bytes that are written to this connection alone: its own frames, and the topics' frames that must
    /// precede them.
    var own = OwnFrames()
    /// The topic whose frames precede the last frame of `own`. While that topic is held, these frames are held too, but
    /// no longer than a topic may be held.
    var follows: Topic?
    /// When a flush first saw what is in `own`, by `Monotonic.nanoseconds`; nil before that.
    var pendingSince: UInt64?
    /// Whether what is sent to the connection waits for `Hub.uncork`.
    var isCorked = false
    /// The number of topics that the connection is in.
    var topicCount = 0
    /// Frames of grade `latest` that wait until the reader has taken what was sent before, by topic.
    var latest: [(topic: ObjectIdentifier, frame: [UInt8])] = []

    init(socket: any FrameSink, number: UInt64) {
      self.socket = socket
      self.number = number
    }

    /// The part of the number that topics store in their rows. Unique among the open connections.
    var key: UInt32 { UInt32(truncatingIfNeeded: number) }

    var isDirty: Bool { socket.outlet.blockers.contains(.ownFrames) }

    /// Whether the connection's frames should wait for the topic that they follow. `longest` is in nanoseconds.
    func isHeld(now: UInt64, longest: UInt64) -> Bool {
      let since = pendingSince ?? now
      pendingSince = since
      return follows?.isHeld == true && now < since &+ longest
    }

    /// Keeps the newest frame of a topic, in place of an older one.
    func keepLatest(_ frame: [UInt8], of topic: Topic) {
      dropLatest(of: topic)
      latest.append((ObjectIdentifier(topic), frame))
    }

    func dropLatest(of topic: Topic) {
      if !latest.isEmpty { latest.removeAll { $0.topic == ObjectIdentifier(topic) } }
    }
  }
}
