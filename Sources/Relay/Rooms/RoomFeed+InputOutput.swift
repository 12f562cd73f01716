internal import Access
internal import Basics
internal import Chat
internal import Events

/// What goes into a room's feed, and what it decides.
extension RoomFeed {
  /// What a subscriber asks for, which decides what it is told.
  enum Purpose: Equatable {
    /// Part of a connection's first frame, or the one room of `/chat`.
    case listed
    /// Asked for by `subscribe`; `clientID` is the frame's.
    case subscribe(clientID: String?)
    /// Because the room became readable.
    case became
    /// Asked for by `resume`: `last` is the highest seq that the client has; `budget` is the frame's.
    case resume(last: Int64, clientID: String?, budget: ReplayBudget)
  }

  enum Input {
    case attach(SubscriberID, Caller, Purpose)
    /// Asked for by `unsubscribe`: answered by `left`, or by a refusal to who may not know of the room,
    /// after what was asked before.
    case leave(SubscriberID, Caller, clientID: String?)
    /// The subscriber is gone; nobody is told.
    case detach(SubscriberID)
    /// The caller's claims changed.
    case renew(SubscriberID, Caller)
    /// The first reading of the room and its head; nil where it does not exist.
    case loaded((room: Room, lastSeq: Int64)?)
    case loadFailed
    /// The room as it is now, after a change; nil where it was deleted.
    case changed(Room?)
    case entry(Entry)
    /// Entries read from the log to fill a gap; nil where that failed.
    case gapRead([Entry]?)
    /// The gap has been waited for long enough.
    case gapTimeout
    /// The head as the database has it; `asOf` is how far this loop had delivered when it began to read.
    /// Entries beyond ours were lost on the way. A head below that is another log: a backup was
    /// restored under us.
    case head(Int64, asOf: Int64)
    /// The first of the entries that a replay asked for, at least one; nil where that failed.
    case replayRead(SubscriberID, replay: Int, [Entry]?)
    /// The head that `readHead` asked for, with its `asOf`; nil where it could not be read.
    case headRead(Int64?, asOf: Int64)
    /// The subscriber has taken what it was sent.
    case replayTaken(SubscriberID, replay: Int)
  }

  enum Output {
    /// Tell the subscriber that it hears everything after `seq`; it is in the topic from here on.
    case admit(SubscriberID, Purpose, seq: Int64)
    case refuse(SubscriberID, Purpose, ErrorCode)
    /// To everyone in the topic.
    case publish(Entry)
    /// Give `gapTimeout` in 20 ms, or in a second where the log could not be read.
    case waitForGap(isRetry: Bool)
    /// Read these entries, then give `gapRead`.
    case readGap(after: Int64, through: Int64)
    /// Read the head in the database, then give `headRead` with this `asOf`.
    case readHead(asOf: Int64)
    /// The database's log ends before what was delivered here: everyone is reset to where it ends.
    case rewound(from: Int64, to: Int64)
    /// Read these entries or the first of them, when the subscriber has room, then give `replayRead`.
    case readReplay(SubscriberID, replay: Int, after: Int64, through: Int64)
    /// Entries for one subscriber, which is not in the topic.
    case replay(SubscriberID, [Entry])
    /// Tell it that it has everything up to `seq`. What came later follows.
    case resumed(SubscriberID, seq: Int64)
    /// Give `replayTaken` when the subscriber has room.
    case awaitRoom(SubscriberID, replay: Int)
    /// The replay is over: it is in the topic from here on.
    case join(SubscriberID)
    /// Tell it to reload up to `seq`; it is in the topic from here on.
    case reset(SubscriberID, seq: Int64)
    /// It left, as it asked to.
    case left(SubscriberID, seq: Int64, clientID: String?)
    /// It hears no more, and is told so.
    case revoke(SubscriberID, ErrorCode)
  }
}
