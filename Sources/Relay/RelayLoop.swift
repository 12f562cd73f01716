internal import Access
internal import Basics
package import Chat
internal import EventLoop
package import Events
package import Live
package import Presence
internal import Web

/// The relay on one event loop: its sockets, the rooms that they hear, and the messages of a turn on their way to the
/// log. Used on the loop only.
package final class RelayLoop {
  /// The index of the event loop.
  let index: Int
  let services: RelayServices
  let backend: any RelayBackend
  let hub: Hub
  let feeds: RoomFeeds
  let presence: PresenceFeed
  let metrics: LiveMetrics
  let work: TurnWork
  /// The number of actions that a socket performs, or of rooms that it leaves, in one step of `work`. An action that
  /// names rooms counts once for each.
  var stepSize = 50 {
    didSet { feeds.roomsLeftPerStep = stepSize }
  }
  /// Events from the stream that have not been applied yet.
  let inbox = EventInbox()
  private var drafts: [Draft] = []
  private var periodTimer: LoopTimer?

  /// How often the head of each room is compared with the database: as often as clients get heartbeats.
  private static let compareHeadsMilliseconds = 25_000
  /// The shortest pause between two parts of a comparison.
  private static let shortestPauseMilliseconds = 20

  /// Creates the relay of an event loop, on top of the loop's live delivery. Must be called on that loop.
  package convenience init(
    live: LiveLoop, services: RelayServices, rooms: Rooms, dialogs: Dialogs,
    references: MessageReferences, marks: ReadMarks, reader: LogReader, people: PresenceReader,
    fanout: any Fanout
  ) {
    live.loop.preconditionOnLoop()
    let backend = DatabaseBackend(
      loop: live.loop, authenticator: services.authenticator, memberships: services.memberships,
      rooms: rooms, dialogs: dialogs, references: references, marks: marks, reader: reader,
      people: people, fanout: fanout)
    self.init(
      index: live.loop.index, services: services, backend: backend, hub: live.hub,
      gate: live.gate, metrics: live.metrics)
    let bound = LoopBound(self, on: live.loop)
    services.listen { [inbox] events in
      if inbox.add(events) { bound.loop.execute { bound.value.takeEvents() } }
    }
    // Unowned, here and below: a relay lives as long as its loop.
    live.beforeFlush { [unowned self] in submitDrafts() }
    services.presence.listen { changes in
      bound.loop.execute { bound.value.presence.take(changes) }
    }
    periodTimer = live.loop.schedule(every: 1000) { [unowned self] in
      feeds.beginPeriod()
      presence.tick()
    }
    compareHeads(after: Self.compareHeadsMilliseconds)
  }

  /// Compares the heads of all served rooms with the database, part by part, in endless rounds. One round takes
  /// `compareHeadsMilliseconds`, or longer if there are very many rooms.
  private func compareHeads(after milliseconds: Int) {
    backend.wait(milliseconds: milliseconds) { [unowned self] in
      let total = feeds.compareSomeHeads()
      let parts = max(1, (total + HeadComparisons.roomsPerPart - 1) / HeadComparisons.roomsPerPart)
      compareHeads(
        after: max(Self.shortestPauseMilliseconds, Self.compareHeadsMilliseconds / parts))
    }
  }

  /// Creates a relay without a loop, for tests. Time passes, and drafts are submitted, only when the test says so.
  init(
    index: Int, services: RelayServices, backend: any RelayBackend, hub: Hub,
    gate: DeliveryGate, metrics: LiveMetrics
  ) {
    self.index = index
    self.services = services
    self.backend = backend
    self.hub = hub
    self.metrics = metrics
    work = TurnWork(backend)
    feeds = RoomFeeds(
      loopIndex: index, hub: hub, gate: gate, services: services, backend: backend, work: work,
      metrics: metrics)
    presence = PresenceFeed(
      presence: services.presence, backend: backend, hub: hub, log: services.log)
    // Unowned: they live as long as each other.
    presence.mayTell = { [unowned feeds] in feeds.mayServe }
    feeds.affiliationsAnnounced = { [unowned presence] in
      presence.affiliationsChanged($0, own: $1)
    }
  }

  /// Applies the events that have arrived. Also called before any input of a client is handled: the input must see
  /// everything that this node committed before the client sent it, even if the loop's own job for these events runs
  /// later in the turn.
  func takeEvents() {
    if let events = inbox.take() { feeds.apply(events) }
  }

  /// Queues a message for the log. It is submitted at the end of the turn, together with the turn's other messages.
  func submit(_ draft: Draft) { drafts.append(draft) }

  /// Submits all messages of the turn in one call, because the log collects them turn by turn.
  func submitDrafts() {
    guard !drafts.isEmpty else { return }
    let turn = drafts
    drafts.removeAll(keepingCapacity: true)
    services.ingest.submit(turn)
  }
}
