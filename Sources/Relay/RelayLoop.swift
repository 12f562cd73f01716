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
  /// Index of the event loop.
  let index: Int
  let services: RelayServices
  let backend: any RelayBackend
  let hub: Hub
  let feeds: RoomFeeds
  let metrics: LiveMetrics
  private var drafts: [Draft] = []
  private var headTimer: Timer?

  /// How often heads are compared with the database: as often as clients hear of them.
  private static let compareHeadsMilliseconds = 25_000

  package init(
    loop: Loop, services: RelayServices, rooms: Rooms, reader: LogReader, metrics: LiveMetrics
  ) {
    loop.preconditionOnLoop()
    index = loop.index
    self.services = services
    self.metrics = metrics
    backend = DatabaseBackend(
      loop: loop, authenticator: services.authenticator, memberships: services.memberships,
      rooms: rooms, reader: reader)
    let gate = DeliveryGate(maximumAgeMilliseconds: services.maximumAgeMilliseconds)
    hub = Hub(
      loop: loop, gate: gate, sendQueueBytes: services.settings.sendQueueBytes, metrics: metrics)
    feeds = RoomFeeds(
      loopIndex: index, hub: hub, gate: gate, services: services, backend: backend,
      metrics: metrics)
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

  private func endTurn() {
    if !drafts.isEmpty {
      let turn = drafts
      drafts.removeAll(keepingCapacity: true)
      services.ingest.submit(turn)
    }
    hub.endTurn()
  }
}
