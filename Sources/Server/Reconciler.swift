internal import Access
internal import Accounts
internal import Basics
internal import Chat
internal import Database
internal import EventLoop
internal import Events
internal import Synchronization

/// Compares this node's knowledge of sessions, memberships and rooms with the database a few times a second.
///
/// The event stream brings changes at once, but may lose them between nodes. What a comparison finds is put into this
/// node's stream as if it had just arrived, so a lost signal causes a delay and not a leak. The end of each
/// comparison is put there too, after its findings. Loops whose last comparison was too long ago continue only then
/// (`Freshness`).
///
/// Changes are read in the database's own order (`ChangePosition`); clocks are not compared.
final class Reconciler: Sendable {
  private let database: any SQLDatabase
  private let events: EventStream
  private let ended: RevokedSessions
  private let memberships: MembershipDirectory
  private let rooms: RoomDirectory
  private let freshness: Freshness
  private let log: Log

  private struct State {
    var position: ChangePosition
    var epoch: String
    /// The findings of the last comparison, which have been published. The next one may find them again.
    var passedOnRooms: [RoomID: Int64] = [:]
    var passedOnAffiliations: [UserID: Int64] = [:]
    var isFailing = false
  }
  private let state: Mutex<State>

  /// A third of the second within which a revocation must take effect, so that one slow read is tolerated.
  private static let everyMilliseconds = 300

  /// `position` and `epoch` are those from when this node read its first state.
  init(
    database: any SQLDatabase, events: EventStream, ended: RevokedSessions,
    memberships: MembershipDirectory, rooms: RoomDirectory, freshness: Freshness,
    position: ChangePosition, epoch: String, log: Log
  ) {
    self.database = database
    self.events = events
    self.ended = ended
    self.memberships = memberships
    self.rooms = rooms
    self.freshness = freshness
    self.log = log
    state = Mutex(State(position: position, epoch: epoch))
  }

  /// Repeats the comparison until the task is cancelled.
  func run(on loop: Loop) async {
    while !Task.isCancelled {
      await compare()
      await loop.sleep(milliseconds: Self.everyMilliseconds)
    }
  }

  private struct Findings: Sendable {
    /// The database's epoch, if it is another one or the position has decreased; otherwise nil. In the second case it
    /// may equal the known epoch.
    let newEpoch: String?
    let sessions: [SessionID]
    let affiliations: [UserID: Int64]
    let rooms: [RoomID: Int64]
    let position: ChangePosition
  }

  /// Makes one comparison. Failures are logged once, until one succeeds.
  func compare() async {
    let begin = UptimeClock.milliseconds
    let (position, epoch) = state.withLock { ($0.position, $0.epoch) }
    do {
      let findings = try await database.readUrgently { transaction in
        let next = try await ChangePosition.next(in: transaction)
        let epochNow = try await Epoch.current(in: transaction) ?? epoch
        // Positions only increase. If this one decreased, another database has taken the place of this one, even with
        // the same epoch.
        guard epochNow == epoch, next.value >= position.value else {
          return Findings(
            newEpoch: epochNow,
            sessions: try await AccountChanges.allEndedSessions(in: transaction),
            affiliations: [:], rooms: [:], position: next)
        }
        let accounts = try await AccountChanges.since(position, in: transaction)
        let changedRooms = try await RoomChanges.since(position, in: transaction)
        // Rooms and memberships in memory are updated here, so that loops need not read them.
        try await self.memberships.refresh(accounts.affiliations, in: transaction)
        try await self.rooms.refresh(changedRooms, in: transaction)
        return Findings(
          newEpoch: nil, sessions: accounts.ended, affiliations: accounts.affiliations,
          rooms: changedRooms, position: next)
      }
      publish(findings, begin)
    } catch {
      let isFirst = state.withLock { state in
        defer { state.isFailing = true }
        return !state.isFailing
      }
      if isFirst { log.warnUnlessStopping("not_compared_with_database", error) }
    }
  }

  private func publish(_ findings: Findings, _ begin: Int64) {
    var news: [Event] = findings.sessions.filter { !ended.contains($0) }
      .map { .access(.sessionEnded($0)) }
    state.withLock { state in
      news += findings.affiliations.filter { state.passedOnAffiliations[$0.key] != $0.value }
        .map { .access(.affiliationsChanged($0.key, version: $0.value)) }
      news += findings.rooms.filter { state.passedOnRooms[$0.key] != $0.value }
        .map { .access(.roomChanged($0.key, version: $0.value)) }
      state.passedOnAffiliations = findings.affiliations
      state.passedOnRooms = findings.rooms
      state.position = findings.position
      state.isFailing = false
      if let epoch = findings.newEpoch { state.epoch = epoch }
    }
    if let epoch = findings.newEpoch {
      log.warning("database_replaced", [:])
      news.append(.epochChanged(epoch))
    }
    events.deliverHere(news + [.compared(at: begin)])
    // Stored last: a request that continues because of this finds the results delivered.
    freshness.compared(at: begin)
  }
}
