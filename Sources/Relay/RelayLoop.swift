internal import Access
internal import Basics
package import Chat
package import EventLoop
package import Events
package import Live
internal import Web

/// The relay on one event loop: its sockets, the rooms they hear, and a turn's messages on their way
/// to the log. On the loop only.
package final class RelayLoop {
  let loop: Loop
  let services: RelayServices
  let hub: Hub
  let feeds: RoomFeeds
  let metrics: LiveMetrics
  private var drafts: [Draft] = []
  private var postponed: [() -> Void] = []
  private var headTimer: Timer?

  /// How often heads are compared with the database: as often as clients hear of them.
  private static let compareHeadsMilliseconds = 25_000

  package init(
    loop: Loop, services: RelayServices, directory: RoomDirectory, metrics: LiveMetrics
  ) {
    self.loop = loop
    self.services = services
    self.metrics = metrics
    let gate = DeliveryGate(maximumAgeMilliseconds: services.maximumAgeMilliseconds)
    hub = Hub(
      loop: loop, gate: gate, sendQueueBytes: services.settings.sendQueueBytes, metrics: metrics)
    feeds = RoomFeeds(
      loop: loop, hub: hub, gate: gate, services: services, directory: directory, metrics: metrics)
    // Unowned, here and below: a relay lives as long as its loop.
    loop.onTurnEnd { [unowned self] in endTurn() }
    headTimer = loop.schedule(every: Self.compareHeadsMilliseconds) { [unowned self] in
      feeds.compareHeads()
    }
  }

  /// Takes events of the stream, in order.
  package func apply(_ events: [Event]) { feeds.apply(events) }

  /// Hands a message to the log with the others of this turn.
  func submit(_ draft: Draft) { drafts.append(draft) }

  /// Runs `body` before the turn ends, when what is being carried out now is done.
  func later(_ body: @escaping () -> Void) { postponed.append(body) }

  private func endTurn() {
    while !postponed.isEmpty {
      let bodies = postponed
      postponed = []
      for body in bodies { body() }
    }
    if !drafts.isEmpty {
      let turn = drafts
      drafts.removeAll(keepingCapacity: true)
      services.ingest.submit(turn)
    }
    hub.endTurn()
  }
}
