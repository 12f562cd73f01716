package import Basics

/// The metrics of live delivery.
package struct LiveMetrics: Sendable {
  package let writes: Counter
  package let slowReaders: Counter
  package let droppedFrames: Counter
  package let deliveries: Counter
  package let framesIn: Counter
  package let framesOut: Counter

  package init(_ metrics: Metrics) {
    writes = metrics.counter(
      "martlet_topic_writes_total", "Batches of a topic's frames handed to a connection.")
    slowReaders = metrics.counter(
      "martlet_dropped_total", "Dropped for readers that are too slow: connections, or frames.",
      labels: ["class": "slow_reader"])
    droppedFrames = metrics.counter(
      "martlet_dropped_total", "Dropped for readers that are too slow: connections, or frames.",
      labels: ["class": "droppable"])
    deliveries = metrics.counter(
      "martlet_deliveries_total", "Messages times the connections they were sent to.")
    framesOut = metrics.counter(
      "martlet_frames_sent_total", "Frames for one connection alone, besides deliveries.")
    framesIn = metrics.counter("martlet_frames_received_total", "WebSocket messages received.")
  }
}
