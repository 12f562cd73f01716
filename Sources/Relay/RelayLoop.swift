internal import Access
internal import Basics
package import Chat
internal import EventLoop
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
  let feeds: RoomFeeds
  private let live: LiveLoop
  private var drafts: [Draft] = []
  private var headTimer: Timer?

  /// How often heads are compared with the database: as often as clients hear of them.
  private static let compareHeadsMilliseconds = 25_000

  /// The relay borrows the loop's live delivery.
  package init(live: LiveLoop, services: RelayServices, rooms: Rooms, reader: LogReader) {
    let loop = live.loop
    loop.preconditionOnLoop()
    index = loop.index
    self.live = live
    self.services = services
    backend = DatabaseBackend(
      loop: loop, authenticator: services.authenticator, memberships: services.memberships,
      rooms: rooms, reader: reader)
    feeds = RoomFeeds(
      loopIndex: index, hub: live.hub, gate: live.gate, services: services, backend: backend,
      metrics: live.metrics)
    // Unowned, here and below: a relay lives as long as its loop.
    live.beforeFlush { [unowned self] in submitDrafts() }
    headTimer = loop.schedule(every: Self.compareHeadsMilliseconds) { [unowned self] in
      feeds.compareHeads()
    }
  }

  var hub: Hub { live.hub }
  var metrics: LiveMetrics { live.metrics }

  /// Takes events of the stream, in order.
  package func apply(_ events: [Event]) { feeds.apply(events) }

  /// Hands a message to the log with the others of this turn.
  func submit(_ draft: Draft) { drafts.append(draft) }

  /// In one call: the log gathers them by the turn.
  private func submitDrafts() {
    guard !drafts.isEmpty else { return }
    let turn = drafts
    drafts.removeAll(keepingCapacity: true)
    services.ingest.submit(turn)
  }
}
