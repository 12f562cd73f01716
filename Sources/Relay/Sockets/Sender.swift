internal import Access
internal import Basics
internal import Chat
internal import Events

/// The path of one socket's entries to the log: whether the caller may write, in which order entries are submitted,
/// and which are checked again because access has changed meanwhile. A value, without clock or database.
struct Sender {
  private var outbox = Outbox()
  private let origin: Origin

  enum Step {
    case submit(Draft)
    /// The entry does not go to the log, for this reason.
    case refuse(Draft, ErrorCode)
  }

  init(origin: Origin) { self.origin = origin }

  /// Checks an entry. Returns what to do with it, or nil if it is held until the outcome of earlier entries is known.
  mutating func write(_ entry: OutgoingEntry, in room: Room, as caller: Caller) -> Step? {
    let access =
      entry.refusal.map { .denied($0) } ?? RuleEngine.access(of: caller, to: entry.body, in: room)
    let draft = Draft(
      roomID: room.id, channelID: room.entryChannelID, from: caller.userID,
      to: room.recipient(of: caller.userID), body: entry.body, clientID: entry.clientID,
      access: access, origin: origin)
    // A caller that may not write may still ask for the ack of an entry that is in the log already. So an entry with a
    // `client_id` goes to the log all the same: the log recognises a retry and refuses everything else.
    if case .denied(let code) = access, entry.clientID == nil { return .refuse(draft, code) }
    return step(draft)
  }

  private mutating func step(_ draft: Draft) -> Step? {
    switch outbox.decide(draft) {
    case .send: .submit(draft)
    case .hold: nil
    case .refuse: .refuse(draft, .unavailable)
    }
  }

  /// Notes that the log has answered a draft. `stale` is the draft itself if its access must be checked again,
  /// otherwise nil. Returns true if the room must be read and passed to `checkAgain`.
  mutating func settled(_ room: RoomID, stale: Draft?) -> Bool {
    outbox.settled(room, stale: stale)
  }

  /// Checks the drafts of a room again, and returns what to do with them, in order. `found` is the room as the
  /// database has it now; nil if it does not exist, or the reason why it could not be read.
  mutating func checkAgain(
    _ id: RoomID, _ found: Result<Room?, AppError>, as caller: Caller
  ) -> [Step] {
    let (drafts, isHopeless) = outbox.drainForRecheck(id)
    return drafts.compactMap { draft in
      if isHopeless { return .refuse(draft, .unavailable) }
      switch found {
      case .success(let room?):
        return again(draft, RuleEngine.access(of: caller, to: draft.body, in: room))
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
