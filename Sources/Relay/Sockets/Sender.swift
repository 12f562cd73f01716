internal import Access
internal import Basics
internal import Chat
internal import Events

/// What becomes of the messages that one socket writes: who may write, in which order they go to the log,
/// what is checked again where access changed meanwhile. A value, without clock or database.
struct Sender {
  private var outbox = Outbox()
  private let origin: Origin

  enum Step {
    case submit(Draft)
    /// It does not go to the log, for this reason.
    case refuse(Draft, ErrorCode)
  }

  init(origin: Origin) { self.origin = origin }

  /// A message of the caller's to a room; nil where it is held until the fate of earlier ones is known.
  mutating func write(_ message: OutgoingMessage, in room: Room, as caller: Caller) -> Step? {
    let access = Self.access(caller, room)
    let draft = Draft(
      roomID: room.id, channelID: room.channelID, from: caller.userID,
      body: .message(message.content), clientID: message.clientID, access: access, origin: origin)
    // Who may not write may still ask for the ack of what is in the log already.
    if case .denied(let code) = access, message.clientID == nil { return .refuse(draft, code) }
    return step(draft)
  }

  private mutating func step(_ draft: Draft) -> Step? {
    switch outbox.decide(draft) {
    case .send: .submit(draft)
    case .hold: nil
    case .refuse: .refuse(draft, .unavailable)
    }
  }

  /// Whether the caller may write in the room, and what that rests on.
  private static func access(_ caller: Caller, _ room: Room) -> Draft.Access {
    if let grant = RuleEngine.grantToWrite(caller, in: room) { return .granted(grant) }
    return .denied(
      RuleEngine.standing(of: caller, in: room).isMember ? .forbidden : .roomNotFound)
  }

  /// The log has answered a draft, with the draft itself where it is stale. True where the room is to be
  /// read as it is now, and `checkAgain` to be called with it.
  mutating func settled(_ room: RoomID, stale: Draft?) -> Bool {
    outbox.settled(room, stale: stale)
  }

  /// The room as the database has it now; nil where it does not exist.
  mutating func checkAgain(
    _ id: RoomID, _ found: Result<Room?, AppError>, as caller: Caller
  ) -> [Step] {
    let (drafts, isHopeless) = outbox.drainForRecheck(id)
    return drafts.compactMap { draft in
      if isHopeless { return .refuse(draft, .unavailable) }
      switch found {
      case .success(let room?): return again(draft, Self.access(caller, room))
      case .success(nil): return .refuse(draft, .roomNotFound)
      case .failure(let error): return .refuse(draft, error.code)
      }
    }
  }

  private mutating func again(_ draft: Draft, _ access: Draft.Access) -> Step? {
    if case .denied(let code) = access, draft.clientID == nil { return .refuse(draft, code) }
    return step(draft.with(access))
  }
}
