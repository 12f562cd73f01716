internal import Access
internal import Basics
internal import Chat
internal import Events

/// What the relay of one event loop asks for and gets later: readings of the database, checks of tokens,
/// the passing of time. On the loop only.
///
/// Everything that takes time goes through here, so that a test can say in which order answers come.
/// Each `then` is called once, on the loop, and never before the call that asked has returned.
protocol RelayBackend: AnyObject {
  /// Who a token belongs to. Fails with `invalid_token` or `unavailable`.
  func authenticate(
    _ token: Secret<String>, _ then: @escaping (Result<Caller, any Error>) -> Void)

  /// The rooms that a caller may read, the most recently active ones where there are too many.
  func listRooms(
    of caller: Caller,
    _ then: @escaping (Result<(ids: [RoomID], hasMore: Bool), any Error>) -> Void)

  /// This loop serves these rooms from now on: their entries of other nodes are wanted. Each is undone by one
  /// `unfollow`.
  func follow(_ ids: [RoomID])

  /// This loop does not serve these rooms any more.
  func unfollow(_ ids: [RoomID])

  /// Those of the rooms that exist, each with the end of its log, in one snapshot: one of a moment when entries
  /// of rooms that are followed came already.
  func readRooms(
    _ ids: [RoomID], _ then: @escaping (Result<[(room: Room, lastSeq: Int64)], any Error>) -> Void)

  /// Those of the rooms that exist, at these versions or newer where the database has them. `isUrgent`
  /// where delivery waits for it.
  func readAgain(
    _ rooms: [RoomID: Int64], isUrgent: Bool,
    _ then: @escaping (Result<[RoomID: Room], any Error>) -> Void)

  /// What accounts belong to, at these versions or newer where the database has them.
  func readAgain(
    _ accounts: [UserID: Int64],
    _ then: @escaping (Result<[UserID: Affiliations], any Error>) -> Void)

  /// A room and what an account belongs to, as the database has them now.
  func readNow(
    _ room: RoomID, account: UserID?,
    _ then: @escaping (Result<(room: Room?, affiliations: Affiliations?), any Error>) -> Void)

  /// Entries of a room from `after` + 1 on, in order and without a gap, at most to `through`; the first of
  /// them where they are many.
  func readEntries(
    of room: Room, after: Int64, through: Int64,
    _ then: @escaping (Result<[Entry], any Error>) -> Void)

  /// Where the logs of rooms end; rooms that never existed are left out.
  func readHeads(
    of ids: [RoomID], _ then: @escaping (Result<[RoomID: Int64], any Error>) -> Void)

  /// The room as it is in this node's memory; nil where the database has to be asked.
  func known(_ room: RoomID) -> Room?

  /// Keeps a room that was read in this node's memory.
  func keep(_ room: Room)

  /// `Monotonic.milliseconds`
  var now: Int64 { get }
  /// `Monotonic.nanoseconds`
  var nanoseconds: UInt64 { get }

  /// Calls `body` in the loop's next turn, behind sockets that are ready.
  func nextTurn(_ body: @escaping () -> Void)

  /// Calls `body` once, after so many milliseconds.
  func wait(milliseconds: Int, _ body: @escaping () -> Void)
}
