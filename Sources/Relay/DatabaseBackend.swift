internal import Access
internal import Accounts
internal import Basics
internal import Chat
internal import EventLoop
internal import Events
internal import Presence

/// The `RelayBackend` of a running node. It reads the database or this node's caches, and follows rooms through the
/// `Fanout`.
final class DatabaseBackend: RelayBackend {
  private let loop: Loop
  private let authenticator: any Authenticator
  private let memberships: any Memberships
  private let rooms: Rooms
  private let dialogs: Dialogs
  private let references: MessageReferences
  private let marks: ReadMarks
  private let reader: LogReader
  private let people: PresenceReader
  private let fanout: any Fanout
  private var directory: RoomDirectory { rooms.directory }

  init(
    loop: Loop, authenticator: any Authenticator, memberships: any Memberships, rooms: Rooms,
    dialogs: Dialogs, references: MessageReferences, marks: ReadMarks,
    reader: LogReader, people: PresenceReader, fanout: any Fanout
  ) {
    self.loop = loop
    self.authenticator = authenticator
    self.memberships = memberships
    self.rooms = rooms
    self.dialogs = dialogs
    self.references = references
    self.marks = marks
    self.reader = reader
    self.people = people
    self.fanout = fanout
  }

  /// Runs `body` as a task of the loop, then calls `then` with its result, on the loop.
  private func run<Found: Sendable>(
    _ then: @escaping (Result<Found, any Error>) -> Void,
    _ body: @escaping @Sendable () async throws -> Found
  ) {
    let then = LoopBound(then, on: loop)
    loop.task {
      let result: Result<Found, any Error>
      do { result = .success(try await body()) } catch { result = .failure(error) }
      then.value(result)
    }
  }

  func authenticate(
    _ token: Secret<String>, _ then: @escaping (Result<Caller, any Error>) -> Void
  ) {
    run(then) { [authenticator] in try await authenticator.authenticate(.bearer(token)) }
  }

  func listRooms(
    of caller: Caller,
    _ then: @escaping (Result<(ids: [RoomID], hasMore: Bool), any Error>) -> Void
  ) {
    run(then) { [rooms] in try await rooms.latestReadableRooms(for: caller) }
  }

  func follow(_ ids: [RoomID]) { fanout.follow(ids) }
  func unfollow(_ ids: [RoomID]) { fanout.unfollow(ids) }

  func readRooms(
    _ ids: [RoomID], _ then: @escaping (Result<[LoadedRoom], any Error>) -> Void
  ) {
    run(then) { [reader, fanout] in
      await fanout.following(ids)
      return try await reader.rooms(ids)
    }
  }

  func readAgain(
    _ rooms: [RoomID: Int64], isUrgent: Bool,
    _ then: @escaping (Result<[RoomID: Room], any Error>) -> Void
  ) {
    run(then) { [directory] in try await directory.rooms(atLeast: rooms, isUrgent: isUrgent) }
  }

  func readAgain(
    _ accounts: [UserID: Int64],
    _ then: @escaping (Result<[UserID: Affiliations], any Error>) -> Void
  ) {
    run(then) { [memberships] in try await memberships.affiliations(atLeast: accounts) }
  }

  func readNow(
    _ room: RoomID, account: UserID?,
    _ then: @escaping (Result<(room: Room?, affiliations: Affiliations?), any Error>) -> Void
  ) {
    run(then) { [directory, memberships] in
      let found = try await directory.reload(room)
      guard let account else { return (found, nil) }
      return (found, try await memberships.reload(account))
    }
  }

  func resolve(
    _ names: [ChannelName], for account: UserID,
    _ then:
      @escaping (
        Result<(affiliations: Affiliations, rooms: [ChannelName: Resolution]), any Error>
      ) -> Void
  ) {
    run(then) { [memberships, dialogs] in
      let affiliations = try await memberships.reload(account)
      var rooms: [ChannelName: Resolution] = [:]
      for name in names {
        guard let team = affiliations.teams[name.team], let channel = team.channel else {
          rooms[name] = .refused(.roomNotFound)
          continue
        }
        guard let member = name.member else {
          rooms[name] = .room(channel)
          continue
        }
        do {
          rooms[name] = .room(
            try await dialogs.dialog(of: account, with: member, in: name.team))
        } catch let error as AppError { rooms[name] = .refused(error.code) }
      }
      return (affiliations, rooms)
    }
  }

  func markRead(
    _ seq: Int64, in room: RoomID, by caller: Caller, origin: Origin,
    _ then: @escaping (Result<RoomState, any Error>) -> Void
  ) {
    run(then) { [marks] in
      try await marks.move(to: seq, in: room, by: caller, origin: origin)
    }
  }

  func examine(
    _ body: EntryBody, in room: RoomID, as caller: Caller,
    _ then: @escaping (Result<EntryBody, any Error>) -> Void
  ) {
    run(then) { [references] in try await references.resolve(body, in: room, as: caller) }
  }

  func findWatchable(
    _ users: [UserID], by caller: Caller,
    _ then: @escaping (Result<[UserID: PresenceFacts], any Error>) -> Void
  ) {
    run(then) { [people] in try await people.watchable(users, by: caller) }
  }

  func knownDialog(of user: UserID, with other: UserID, in team: TeamID) -> RoomID? {
    dialogs.known(of: user, with: other, in: team)
  }

  func readEntries(
    of room: Room, after: Int64, through: Int64,
    _ then: @escaping (Result<[Entry], any Error>) -> Void
  ) {
    run(then) { [reader] in try await reader.entries(in: room, after: after, through: through) }
  }

  func readHeads(
    of ids: [RoomID], _ then: @escaping (Result<[RoomID: Int64], any Error>) -> Void
  ) {
    run(then) { [reader] in try await reader.lastSeqs(ids) }
  }

  func known(_ room: RoomID) -> Room? { directory.cached(room) }
  func keep(_ room: Room) { directory.put(room) }

  var now: Int64 { Monotonic.milliseconds }
  var nanoseconds: UInt64 { Monotonic.nanoseconds }

  func nextTurn(_ body: @escaping () -> Void) { loop.onNextTurn(body) }

  func wait(milliseconds: Int, _ body: @escaping () -> Void) {
    loop.schedule(after: milliseconds, body)
  }
}
