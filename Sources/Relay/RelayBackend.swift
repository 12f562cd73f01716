internal import Access
internal import Basics
internal import Chat
internal import Events

/// What the relay of one event loop asks of the outside: database reads, token checks, and the passing of time. Used
/// on the loop only.
///
/// Everything that takes time goes through this protocol, so that a test can decide the order of the answers. Each
/// `then` is called once, on the loop, and never before the asking call has returned.
protocol RelayBackend: AnyObject {
  /// Finds the caller of a token. Fails with `invalid_token` or `unavailable`.
  func authenticate(
    _ token: Secret<String>, _ then: @escaping (Result<Caller, any Error>) -> Void)

  /// Lists the rooms that a caller may read. If there are too many, those with the latest activity.
  func listRooms(
    of caller: Caller,
    _ then: @escaping (Result<(ids: [RoomID], hasMore: Bool), any Error>) -> Void)

  /// From now on this loop serves these rooms, so it needs their entries from other nodes. Each call is undone by one
  /// `unfollow`.
  func follow(_ ids: [RoomID])

  /// This loop does not serve these rooms any more.
  func unfollow(_ ids: [RoomID])

  /// Reads those of the rooms that exist, each with its head, in one snapshot. The snapshot is not older than the
  /// moment from which entries of followed rooms arrive here, so none is missed in between.
  func readRooms(
    _ ids: [RoomID], _ then: @escaping (Result<[(room: Room, lastSeq: Int64)], any Error>) -> Void)

  /// Reads those of the rooms that exist, at these versions or newer if the database has them. `isUrgent` means that
  /// delivery waits for the result.
  func readAgain(
    _ rooms: [RoomID: Int64], isUrgent: Bool,
    _ then: @escaping (Result<[RoomID: Room], any Error>) -> Void)

  /// Reads accounts' memberships, at these versions or newer if the database has them.
  func readAgain(
    _ accounts: [UserID: Int64],
    _ then: @escaping (Result<[UserID: Affiliations], any Error>) -> Void)

  /// Reads a room and an account's memberships from the database, not from memory.
  func readNow(
    _ room: RoomID, account: UserID?,
    _ then: @escaping (Result<(room: Room?, affiliations: Affiliations?), any Error>) -> Void)

  /// Reads entries of a room from `after` + 1 to at most `through`, in order and without a gap. If there are many,
  /// only the first of them.
  func readEntries(
    of room: Room, after: Int64, through: Int64,
    _ then: @escaping (Result<[Entry], any Error>) -> Void)

  /// Reads the heads of rooms. Rooms that never existed are left out.
  func readHeads(
    of ids: [RoomID], _ then: @escaping (Result<[RoomID: Int64], any Error>) -> Void)

  /// The room as this node has it in memory, or nil if the database has to be asked.
  func known(_ room: RoomID) -> Room?

  /// Keeps a room that was read in this node's memory.
  func keep(_ room: Room)

  /// The time by `Monotonic.milliseconds`.
  var now: Int64 { get }
  /// The time by `Monotonic.nanoseconds`.
  var nanoseconds: UInt64 { get }

  /// Calls `body` in the loop's next turn, after the sockets that are ready were served.
  func nextTurn(_ body: @escaping () -> Void)

  /// Calls `body` once, after this many milliseconds.
  func wait(milliseconds: Int, _ body: @escaping () -> Void)
}
