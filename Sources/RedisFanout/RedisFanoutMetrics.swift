internal import Basics

/// The metrics of the fan-out.
struct RedisFanoutMetrics: Sendable {
  /// 1 while both connections are open.
  let connected: Gauge
  let peers: Gauge
  let sent: Counter
  let unsent: Counter
  let received: Counter
  let gaps: Counter
  /// Frames that were not sealed with the nodes' key for their channel, or are too large.
  let forged: Counter
  /// Frames that arrived twice or too late.
  let repeated: Counter
  /// Frames of a node that has not answered this node's challenge yet.
  let notAccepted: Counter
  /// Frames that this release cannot decode: of another version, or with malformed events.
  let unreadable: Counter

  init(_ metrics: Metrics) {
    connected = metrics.gauge(
      "martlet_fanout_connected", "1 while this node exchanges events with others through Redis.")
    peers = metrics.gauge("martlet_fanout_peers", "Other nodes that are heard.")
    sent = metrics.counter("martlet_fanout_frames_sent_total", "Frames sent to other nodes.")
    unsent = metrics.counter(
      "martlet_fanout_frames_unsent_total",
      "Frames that were not sent, since Redis was away or slow. Others find what was in them in the database."
    )
    received = metrics.counter(
      "martlet_fanout_frames_received_total", "Frames of other nodes that were taken.")
    gaps = metrics.counter(
      "martlet_fanout_gaps_total",
      "Times that frames were found to be lost and heads were compared.")
    func refused(_ reason: String) -> Counter {
      metrics.counter(
        "martlet_fanout_frames_refused_total", "Frames that were not taken.",
        labels: ["reason": reason])
    }
    forged = refused("not_ours")
    repeated = refused("repeated")
    notAccepted = refused("not_accepted")
    unreadable = refused("unreadable")
  }
}
