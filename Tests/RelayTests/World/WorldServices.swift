import Access
import Accounts
import Basics
import Chat
import Events
import Synchronization
import TestSupport

@testable import Relay

/// A `RelayBackend` that answers when the test says so: in any order, with the state at the time of the question or of
/// the answer, or with a failure.
final class WorldBackend: RelayBackend {
  private struct Pending {
    /// Answers the question. The argument tells whether the answer is a failure.
    let answer: (Bool) -> Void
  }

  private let database: WorldDatabase
  private let pick: (Int) -> Int
  private var pending: [Pending] = []
  private var timers: [(due: Int64, body: () -> Void)] = []
  /// The node's cache of rooms.
  private var memory: [RoomID: Room] = [:]
  /// The caller that each valid token belongs to.
  var tokens: [String: Caller] = [:]
  var now: Int64 = 1_000
  var nanoseconds: UInt64 { UInt64(now) * 1_000_000 }

  init(_ database: WorldDatabase, pick: @escaping (Int) -> Int) {
    self.database = database
    self.pick = pick
  }

  /// How many calls of `follow` each room has that were not undone.
  private(set) var followed: [RoomID: Int] = [:]

  var hasPending: Bool { !pending.isEmpty }

  private func ask<Found>(
    _ then: @escaping (Result<Found, any Error>) -> Void,
    _ read: @escaping () throws -> Found
  ) {
    // The snapshot is from some moment between the question and the answer.
    let early: Result<Found, any Error>? = pick(2) == 0 ? Result { try read() } : nil
    pending.append(
      Pending { fails in
        if fails {
          then(.failure(AppError(.unavailable)))
        } else {
          then(early ?? Result { try read() })
        }
      })
  }

  /// Answers any one question. With `mayFail` the answer is sometimes a failure.
  func answerOne(mayFail: Bool) {
    guard !pending.isEmpty else { return }
    let next = pending.remove(at: pick(pending.count))
    next.answer(mayFail && pick(8) == 0)
  }

  /// Answers the oldest question.
  func answerFirst() { pending.removeFirst().answer(false) }

  /// Answers the newest question.
  func answerLast() { pending.removeLast().answer(false) }

  /// Answers the oldest question with a failure.
  func failOne() { pending.removeFirst().answer(true) }

  func pass(_ milliseconds: Int64) {
    now += milliseconds
    let due = timers.filter { $0.due <= now }
    timers.removeAll { $0.due <= now }
    for timer in due { timer.body() }
  }

  /// Updates the cache after a change that this node made itself.
  func remember(_ room: Room) { memory[room.id] = room }
  func forget(_ id: RoomID) { memory[id] = nil }

  // MARK: RelayBackend

  func authenticate(
    _ token: Secret<String>, _ then: @escaping (Result<Caller, any Error>) -> Void
  ) {
    ask(then) { [tokens] in
      guard let caller = tokens[token.reveal()] else { throw AppError(.invalidToken) }
      return caller
    }
  }

  func listRooms(
    of caller: Caller,
    _ then: @escaping (Result<(ids: [RoomID], hasMore: Bool), any Error>) -> Void
  ) {
    ask(then) { [database] in
      let ids = database.rooms.keys.sorted().filter { id in
        database.room(id).map {
          RuleEngine.standing(of: caller, in: $0).permissions.contains(.read)
        } ?? false
      }
      return (ids, false)
    }
  }

  func follow(_ ids: [RoomID]) { for id in ids { followed[id, default: 0] += 1 } }

  func unfollow(_ ids: [RoomID]) {
    for id in ids {
      let count = (followed[id] ?? 0) - 1
      followed[id] = count == 0 ? nil : count
    }
  }

  func readRooms(
    _ ids: [RoomID], _ then: @escaping (Result<[LoadedRoom], any Error>) -> Void
  ) {
    ask(then) { [database] in
      ids.compactMap { id in
        database.room(id).map { LoadedRoom(room: $0, lastSeq: database.rooms[id]?.lastSeq ?? 0) }
      }
    }
  }

  func readAgain(
    _ rooms: [RoomID: Int64], isUrgent: Bool,
    _ then: @escaping (Result<[RoomID: Room], any Error>) -> Void
  ) {
    // Every announced version is in the database already.
    let least = rooms
    ask(then) { [database] in
      var found: [RoomID: Room] = [:]
      for id in least.keys { found[id] = database.room(id) }
      return found
    }
  }

  func readAgain(
    _ accounts: [UserID: Int64],
    _ then: @escaping (Result<[UserID: Affiliations], any Error>) -> Void
  ) {
    ask(then) { [database] in
      var found: [UserID: Affiliations] = [:]
      for user in accounts.keys { found[user] = database.affiliations[user] ?? Affiliations.none }
      return found
    }
  }

  func readNow(
    _ room: RoomID, account: UserID?,
    _ then: @escaping (Result<(room: Room?, affiliations: Affiliations?), any Error>) -> Void
  ) {
    ask(then) { [database] in
      (database.room(room), account.map { database.affiliations[$0] ?? .none })
    }
  }

  // The world has no teams.

  func resolve(
    _ names: [ChannelName], for account: UserID,
    _ then:
      @escaping (
        Result<(affiliations: Affiliations, rooms: [ChannelName: Resolution]), any Error>
      ) -> Void
  ) {
    ask(then) { [database] in
      (
        database.affiliations[account] ?? .none,
        names.reduce(into: [:]) { $0[$1] = .refused(.roomNotFound) }
      )
    }
  }

  func examine(
    _ body: EntryBody, in room: RoomID, as caller: Caller,
    _ then: @escaping (Result<EntryBody, any Error>) -> Void
  ) {
    ask(then) { body }
  }

  func findWatchable(
    _ users: [UserID], by caller: Caller,
    _ then: @escaping (Result<[UserID: PresenceFacts], any Error>) -> Void
  ) {
    ask(then) { Dictionary(uniqueKeysWithValues: users.map { ($0, PresenceFacts()) }) }
  }

  func markRead(
    _ seq: Int64, in room: RoomID, by caller: Caller, origin: Origin,
    _ then: @escaping (Result<RoomState, any Error>) -> Void
  ) {
    ask(then) { throw AppError(.unavailable) }
  }

  func knownDialog(of user: UserID, with other: UserID, in team: TeamID) -> RoomID? { nil }

  func readEntries(
    of room: Room, after: Int64, through: Int64,
    _ then: @escaping (Result<[Entry], any Error>) -> Void
  ) {
    let length = Int64(1 + pick(5))
    ask(then) { [database] in
      database.entries(of: room.id, after: after, through: min(through, after + length))
    }
  }

  func readHeads(
    of ids: [RoomID], _ then: @escaping (Result<[RoomID: Int64], any Error>) -> Void
  ) {
    ask(then) { [database] in
      var heads: [RoomID: Int64] = [:]
      for id in ids { heads[id] = database.rooms[id]?.lastSeq }
      return heads
    }
  }

  func known(_ room: RoomID) -> Room? { memory[room] }

  func keep(_ room: Room) {
    if let known = memory[room.id], known.accessVersion > room.accessVersion { return }
    memory[room.id] = room
  }

  func nextTurn(_ body: @escaping () -> Void) { wait(milliseconds: 0, body) }

  func wait(milliseconds: Int, _ body: @escaping () -> Void) {
    timers.append((now + Int64(milliseconds), body))
  }
}

/// An `Ingest` that keeps drafts until the test commits them.
final class WorldIngest: Ingest {
  private let drafts = Mutex<[Draft]>([])

  func submit(_ new: [Draft]) { drafts.withLock { $0 += new } }
  func isExpecting(_ room: RoomID) -> Bool { false }

  func take(_ count: Int) -> [Draft] {
    drafts.withLock { drafts in
      let taken = Array(drafts.prefix(count))
      drafts.removeFirst(taken.count)
      return taken
    }
  }

  var isEmpty: Bool { drafts.withLock { $0.isEmpty } }
}

/// An authenticator that knows which sessions have ended, and nothing else.
final class WorldAuthenticator: Authenticator {
  private let ended = Mutex<Set<SessionID>>([])

  func authenticate(_ credential: Credential) async throws -> Caller {
    throw AppError(.invalidToken)
  }

  func check(_ caller: Caller) throws(AppError) {
    if let session = caller.sessionID, hasEnded(session) { throw AppError(.invalidToken) }
  }

  func hasEnded(_ session: SessionID) -> Bool { ended.withLock { $0.contains(session) } }
  func noteUse(of caller: Caller) {}
  func end(_ session: SessionID) { ended.withLock { _ = $0.insert(session) } }
}

/// The node's cache of memberships. For each user it has the newest announced ones, or nothing.
final class WorldMemberships: Memberships {
  private let known = Mutex<[UserID: Affiliations]>([:])

  func current(_ user: UserID) -> Affiliations? { known.withLock { $0[user] } }
  func remember(_ user: UserID, _ affiliations: Affiliations?) {
    known.withLock { $0[user] = affiliations }
  }

  func affiliations(
    of user: UserID, atLeast version: Int64
  ) async throws -> Affiliations { throw AppError(.unavailable) }

  func affiliations(
    atLeast versions: [UserID: Int64]
  ) async throws -> [UserID: Affiliations] { throw AppError(.unavailable) }

  func reload(_ user: UserID) async throws -> Affiliations { throw AppError(.unavailable) }
}
