internal import Access
internal import Accounts
internal import Basics
internal import Chat
internal import Database
internal import EventLoop
internal import Events
internal import Synchronization

/// Compares what this node knows of sessions, memberships and rooms with the database, a few times a
/// second.
///
/// The stream of events brings changes at once, but may lose them between nodes. What is found here is
/// put into this node's stream as if it had just come: a lost signal costs a moment, not a leak. The
/// end of each comparison goes the same way, so that whoever hears of it has heard of what it found;
/// only then do loops go on whose last one was too long ago (`Freshness`).
///
/// Changes are read by the database's own order (`ChangePosition`); no clock is compared.
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
    /// What was passed on already of what the last comparison found: it may be found again.
    var passedOnRooms: [RoomID: Int64] = [:]
    var passedOnAffiliations: [UserID: Int64] = [:]
    var isFailing = false
  }
  private let state: Mutex<State>

  /// A third of the second within which a revocation must count, so that one slow reading is no harm.
  private static let everyMilliseconds = 300

  /// `position` and `epoch` as they were when this node began to know things.
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

  /// Repeats until the task is cancelled.
  func run(on loop: Loop) async {
    while !Task.isCancelled {
      await compare()
      await loop.sleep(milliseconds: Self.everyMilliseconds)
    }
  }

  private struct Findings: Sendable {
    /// Nil while the database has the name that it had; else its name now.
    let newEpoch: String?
    let sessions: [SessionID]
    let affiliations: [UserID: Int64]
    let rooms: [RoomID: Int64]
    let position: ChangePosition
  }

  /// One comparison. Failures are logged once, until one succeeds.
  func compare() async {
    let begin = UptimeClock.milliseconds
    let (position, epoch) = state.withLock { ($0.position, $0.epoch) }
    do {
      let findings = try await database.readUrgently { transaction in
        let next = try await ChangePosition.next(in: transaction)
        let epochNow = try await Epoch.current(in: transaction) ?? epoch
        // Positions only grow: another database took this one's place, even if it has its name.
        guard epochNow == epoch, next.value >= position.value else {
          return Findings(
            newEpoch: epochNow,
            sessions: try await AccountChanges.allEndedSessions(in: transaction),
            affiliations: [:], rooms: [:], position: next)
        }
        let accounts = try await AccountChanges.since(position, in: transaction)
        let changedRooms = try await RoomChanges.since(position, in: transaction)
        // What is in memory already is brought up to date here, so that loops need not ask.
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
    // Whoever goes on by this finds what was delivered.
    freshness.compared(at: begin)
  }
}
