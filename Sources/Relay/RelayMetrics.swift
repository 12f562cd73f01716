package import Basics

/// The metrics of the relay.
package struct RelayMetrics: Sendable {
  let headsHealed: Counter
  let headsRewound: Counter
  let framesRefused: Counter

  package init(_ metrics: Metrics) {
    headsHealed = metrics.counter(
      "martlet_room_heads_healed_total", "Gaps in delivery that were filled from the log.")
    headsRewound = metrics.counter(
      "martlet_room_heads_rewound_total",
      "Rooms whose log in the database ends before what was delivered: an older backup was restored."
    )
    framesRefused = metrics.counter(
      "martlet_frames_refused_total", "Frames refused because of a rate.")
  }
}
