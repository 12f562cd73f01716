internal import Access
internal import Accounts
internal import Basics
internal import Chat
internal import Events

/// Everything outside of one event loop's relay that the relay depends on: database reads, token checks, and the
/// passing of time. Used on the loop only.
///
/// Everything that takes time goes through this protocol, so that a test can decide the order of the answers. Each
/// `then` is called exactly once, on the loop, and never before the method that it was passed to has returned.
protocol RelayBackend: AnyObject {
  /// Authenticates a bearer token and finds its caller. Fails with `invalid_token` or `unavailable`.
  func authenticate(
    _ token: Secret<String>, _ then: @escaping (Result<Caller, any Error>) -> Void)

  /// Lists the rooms that a caller may read. If there are too many to list, finds only those with the latest activity,
  /// and `hasMore` is true.
  func listRooms(
    of caller: Caller,
    _ then: @escaping (Result<(ids: [RoomID], hasMore: Bool), any Error>) -> Void)

  /// Follows these rooms: asks for their entries from other nodes, because this loop serves the rooms from now on.
  /// Calls are counted. Each is undone by one `unfollow`.
  func follow(_ ids: [RoomID])

  /// Undoes one `follow` of these rooms, because this loop does not serve them any more.
  func unfollow(_ ids: [RoomID])

  /// Reads those of the rooms that exist, each with its head, in one snapshot. The rooms must be followed already. The
  /// snapshot is not older than the moment from which entries of followed rooms arrive here, so no entry is missed
  /// between the two.
  func readRooms(
    _ ids: [RoomID], _ then: @escaping (Result<[LoadedRoom], any Error>) -> Void)

  /// Reads those of the rooms that exist. `rooms` gives the version that was announced for each. A room is found at
  /// that version or a newer one, if the database has it. `isUrgent` means that delivery waits for the result.
  func readAgain(
    _ rooms: [RoomID: Int64], isUrgent: Bool,
    _ then: @escaping (Result<[RoomID: Room], any Error>) -> Void)

  /// Reads accounts' memberships, at these versions or newer if the database has them.
  func readAgain(
    _ accounts: [UserID: Int64],
    _ then: @escaping (Result<[UserID: Affiliations], any Error>) -> Void)

  /// Reads a room and an account's memberships from the database, not from this node's caches. Finds nil for a room
  /// that does not exist, and nil memberships if `account` is nil.
  func readNow(
    _ room: RoomID, account: UserID?,
    _ then: @escaping (Result<(room: Room?, affiliations: Affiliations?), any Error>) -> Void)

  /// Finds the rooms that an account means by the names of teams, and reads the account's memberships. Makes dialogs
  /// that do not exist yet.
  func resolve(
    _ names: [ChannelName], for account: UserID,
    _ then:
      @escaping (
        Result<(affiliations: Affiliations, rooms: [ChannelName: Resolution]), any Error>
      ) -> Void)

  /// Moves a caller's mark in a room to a seq. Fails with the reason why that is not possible. `origin` is the socket that
  /// asks.
  func markRead(
    _ seq: Int64, in room: RoomID, by caller: Caller, origin: Origin,
    _ then: @escaping (Result<RoomState, any Error>) -> Void)

  /// Returns the body with everything that it refers to outside of its room, or fails with the reason why it is refused.
  func examine(
    _ body: EntryBody, in room: RoomID, as caller: Caller,
    _ then: @escaping (Result<EntryBody, any Error>) -> Void)

  /// Finds those of these people whose presence the caller may know, with what the database knows about it.
  func findWatchable(
    _ users: [UserID], by caller: Caller,
    _ then: @escaping (Result<[UserID: PresenceFacts], any Error>) -> Void)

  /// Returns the dialog of two members of a team from this node's cache, or nil if it has to be resolved.
  func knownDialog(of user: UserID, with other: UserID, in team: TeamID) -> RoomID?

  /// Reads entries of a room from `after` + 1 to at most `through`, in order and without a gap. If there are many,
  /// finds only the first of them.
  func readEntries(
    of room: Room, after: Int64, through: Int64,
    _ then: @escaping (Result<[Entry], any Error>) -> Void)

  /// Reads the heads of rooms. Rooms that never existed are left out.
  func readHeads(
    of ids: [RoomID], _ then: @escaping (Result<[RoomID: Int64], any Error>) -> Void)

  /// Returns the room from this node's cache, or nil if the room must be read from the database.
  func known(_ room: RoomID) -> Room?

  /// Puts a room that was read from the database into this node's cache, unless a newer version is known.
  func keep(_ room: Room)

  /// The present time of `Monotonic.milliseconds`.
  var now: Int64 { get }
  /// The present time of `Monotonic.nanoseconds`.
  var nanoseconds: UInt64 { get }

  /// Calls `body` in the loop's next turn, after the sockets that are ready have been served.
  func nextTurn(_ body: @escaping () -> Void)

  /// Calls `body` once, after this many milliseconds.
  func wait(milliseconds: Int, _ body: @escaping () -> Void)
}
