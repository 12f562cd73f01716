internal import Access
internal import Basics
internal import Chat
internal import Events

/// The inputs of a room's feed, and its outputs.
extension RoomFeed {
  /// Why a subscriber enters the room. This decides which frames it is sent.
  enum Purpose: Equatable {
    /// The room is listed in a connection's first frame, or it is the one room of `/chat`.
    case listed
    /// The client sent `subscribe` with this `clientID`.
    case subscribe(clientID: String?)
    /// The room became readable for a socket that follows all rooms.
    case became
    /// The client sent `resume`. `last` is the highest seq that it has; `budget` is shared by the frame's rooms.
    case resume(last: Int64, clientID: String?, budget: ReplayBudget)
  }

  enum Input {
    case attach(SubscriberID, Caller, Purpose)
    /// The client sent `unsubscribe`. Answered with `left` after all earlier requests, or with a refusal if the
    /// caller may not know of the room.
    case leave(SubscriberID, Caller, clientID: String?)
    /// The subscriber has closed; it is sent nothing.
    case detach(SubscriberID)
    /// The caller's claims changed.
    case renew(SubscriberID, Caller)
    /// The first read of the room and its head; nil if the room does not exist.
    case loaded((room: Room, lastSeq: Int64)?)
    case loadFailed
    /// The room after a change; nil if it was deleted. `concerns` are the subscribers whose standing may have changed
    /// with it; nil means all.
    case changed(Room?, concerns: Set<SubscriberID>?)
    case entry(Entry)
    /// Entries read from the log to fill a gap; nil if the read failed.
    case gapRead([Entry]?)
    /// The time to wait for missing entries is over.
    case gapTimeout
    /// The head in the database; `asOf` is the seq up to which this loop had delivered when the read began. A head
    /// beyond ours means that entries were lost on the way. A head below `asOf` means another log: a backup was
    /// restored while this node was running.
    case head(Int64, asOf: Int64)
    /// The first of the entries that a replay asked for, at least one; nil if the read failed.
    case replayRead(SubscriberID, replay: Int, [Entry]?)
    /// The head that `readHead` asked for, with its `asOf`; nil if the read failed.
    case headRead(Int64?, asOf: Int64)
    /// The subscriber has taken what it was sent.
    case replayTaken(SubscriberID, replay: Int)
  }

  enum Output {
    /// Tell the subscriber that it receives everything after `seq`. It is in the topic from here on.
    case admit(SubscriberID, Purpose, seq: Int64)
    /// The same, but the subscriber is not in the topic yet: it is sent the entries after `seq` first.
    case begin(SubscriberID, Purpose, seq: Int64)
    case refuse(SubscriberID, Purpose, ErrorCode)
    /// Send this entry to everyone in the topic.
    case publish(Entry)
    /// Give the input `gapTimeout` in 20 ms, or in one second if the log could not be read.
    case waitForGap(isRetry: Bool)
    /// Read these entries, then give the input `gapRead`.
    case readGap(after: Int64, through: Int64)
    /// Read the head in the database, then give the input `headRead` with this `asOf`.
    case readHead(asOf: Int64)
    /// The database's log ends before what was delivered here. Everyone is reset to its end.
    case rewound(from: Int64, to: Int64)
    /// When the subscriber's queue has room, read these entries or the first of them, then give the input
    /// `replayRead`.
    case readReplay(SubscriberID, replay: Int, after: Int64, through: Int64)
    /// Send these entries to one subscriber, which is not in the topic.
    case replay(SubscriberID, [Entry])
    /// Tell the subscriber that it has everything up to `seq`. Later entries follow.
    case resumed(SubscriberID, seq: Int64)
    /// Give the input `replayTaken` when the subscriber's queue has room.
    case awaitRoom(SubscriberID, replay: Int)
    /// The replay is over. The subscriber is in the topic from here on.
    case join(SubscriberID)
    /// Tell the subscriber to reload up to `seq`. It is in the topic from here on.
    case reset(SubscriberID, seq: Int64)
    /// The subscriber has left, as it asked to.
    case left(SubscriberID, seq: Int64, clientID: String?)
    /// The subscriber is told that it receives nothing of this room any more.
    case revoke(SubscriberID, ErrorCode)
  }
}
