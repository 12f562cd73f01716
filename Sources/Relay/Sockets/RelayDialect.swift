internal import Access
internal import Basics
internal import Chat
internal import Events
internal import Web

/// Relay v1 as a value (docs/protocols/relay-v1.md): frames and outcomes go in, actions come out.
///
/// Frames are served in the order in which they came. Something that has to wait (a room that is being read, a token
/// that is being checked) holds up only what depends on it. No frame is served before `ready` was sent.
struct RelayDialect: SocketDialect {
  private enum State {
    case opening(Opening)
    /// The socket is subscribing to its first rooms. `left` of them have not answered yet. `heads` are those that
    /// `ready` will list.
    case entering(left: Int, heads: [RoomHead])
    case open
  }

  /// The state while `ready` is being prepared.
  private struct Opening {
    /// The rooms that `ready` will list.
    var rooms: [RoomID] = []
    /// Whether the caller's rights have changed since the rooms were looked up.
    var isOutdated = false
  }

  private var state = State.opening(Opening())
  /// False for `?subscribe=none`: the socket hears only the rooms that it asks for.
  private let followsAllRooms: Bool
  private let maximumContentBytes: Int
  /// The bytes of held acks beyond which the socket is closed as a slow reader: the client keeps sending without
  /// reading.
  private let maximumHeldBytes: Int
  private var subscribed: Set<RoomID> = []
  /// Rooms that the client unsubscribed from. They are not subscribed to again unless the client asks.
  private var left: Set<RoomID> = []
  /// Rooms that became readable while `ready` was being prepared.
  private var becameReadable: Set<RoomID> = []
  /// Invitations that arrived while `ready` was being prepared.
  private var invitations: [SocketAction] = []
  private var acks = AckOrder()
  /// False if there are more rooms than `ready` lists. The client subscribes to the others by name.
  private var listsAllRooms = true
  private var following = Following.idle
  /// The frame whose channels are being found in the database. Later frames wait.
  private var resolving: JSONObject?
  /// What was found for that frame.
  private var resolutions: [ChannelName: Resolution] = [:]
  /// Whether what a message refers to is being checked, or whom the caller may watch. Later frames wait.
  private var isAsking = false
  /// The `client_id` of the `auth` frame whose token is being checked.
  private var authClientID: String?
  private var heartbeatDue: Int64
  /// The point up to which the client has been told about moved heads.
  private var headsTold = HeadMark.beginning
  /// The time by which `ready` must have been sent. After that the socket is closed with `unavailable`, which tells
  /// the client to try again later.
  private let openingDue: Int64

  /// The search for rooms that new rights made readable.
  private enum Following {
    case idle
    /// The search is under way. `again` means that rights have changed since it began.
    case searching(again: Bool)
    /// The search failed; the next one begins at this time.
    case waiting(until: Int64)
  }

  private static let heartbeatMilliseconds: Int64 = 25_000
  private static let followAgainMilliseconds: Int64 = 1000
  /// How many channels one frame may name without being charged for more than one frame.
  private static let channelsPerFrame = 100

  /// `now` is a time of `Monotonic.milliseconds`, like all times here.
  init(
    followsAllRooms: Bool, maximumContentBytes: Int, maximumHeldBytes: Int,
    openingMilliseconds: Int64, now: Int64
  ) {
    self.followsAllRooms = followsAllRooms
    self.maximumContentBytes = maximumContentBytes
    self.maximumHeldBytes = maximumHeldBytes
    heartbeatDue = now + Self.heartbeatMilliseconds
    openingDue = now + openingMilliseconds
  }

  // MARK: SocketDialect

  static let kind = DialectKind.relay
  static let maximumRefusals = 1000
  static var ends: ((JSONObject?) -> Bool)? { nil }

  var isBusy: Bool { if case .open = state { resolving != nil || isAsking } else { true } }
  var isReady: Bool { if case .opening = state { false } else { true } }
  var rooms: Set<RoomID> { subscribed }

  var tickDue: Int64? {
    guard case .open = state else { return openingDue }
    if case .waiting(let until) = following { return min(until, heartbeatDue) }
    return heartbeatDue
  }

  mutating func handle(_ input: SocketInput, _ view: some SocketView) -> [SocketAction] {
    switch input {
    case .opened: return followsAllRooms ? [.list] : enter([], view)
    case .frame(let object): return serve(object, view)
    case .refused(let object, let code):
      guard let object else { return [.close(.notJSON)] }
      return [fail(code, clientID: object["client_id"]?.string)]
    case .binary: return [.close(.unsupportedData)]
    case .tokenAccepted(let caller):
      authClientID = nil
      return [.send(.relay(.authed(caller)))]
    case .tokenOfAnotherUser: return [fail(.notSameUser, clientID: takeAuthClientID())]
    case .tokenRefused(let code):
      return [
        fail(code == .unavailable ? .unavailable : .invalidToken, clientID: takeAuthClientID())
      ]
    case .listed(let ids, let hasMore): return listed(ids, hasMore)
    case .notListed: return notListed(view)
    case .resolved(let found): return resolved(found, view)
    case .examined(let entry):
      isAsking = false
      return [.write(entry)]
    case .watching(let people):
      isAsking = false
      return [.send(.relay(.presence(people)))]
    case .loaded(let failure): return loaded(failure, view)
    case .room(let notification): return receive(notification, view)
    case .committed(let entry): return committed(entry, view)
    case .failed(let channelID, let clientID, let code):
      // What is wrong with a request is wrong with a frame.
      let isInvalid = code.wire == ErrorCode.validationFailed.wire
      let code = isInvalid ? ErrorCode.invalidFrame.saying(code.meaning) : code
      if channelID == nil { isAsking = false }
      return [fail(code, clientID: clientID, channel: channelID)]
    case .claimsChanged: return claimsChanged()
    case .invited(let room, let rule): return invited(to: room, rule, view)
    case .expiring(let seconds): return [.answer(.relay(.expiring(inSeconds: seconds)))]
    case .tick: return tick(view)
    }
  }

  // MARK: Frames

  private mutating func serve(_ object: JSONObject?, _ view: some SocketView) -> [SocketAction] {
    guard let object else { return [.close(.notJSON)] }
    do {
      let frame = try RelayFrame(object, maximumContentBytes: maximumContentBytes)
      let unknown = unknownNames(in: frame, view)
      if !unknown.isEmpty {
        resolving = object
        return [.resolve(unknown)]
      }
      // A frame that names thousands of channels is charged as several frames.
      let surcharge = frame.channelCount / Self.channelsPerFrame
      let charges: [SocketAction] = surcharge > 0 ? [.charge(frames: surcharge)] : []
      return charges + frame.faults.map(fail) + perform(frame, view)
    } catch {
      return [fail(error)]
    }
  }

  private mutating func perform(_ frame: RelayFrame, _ view: some SocketView) -> [SocketAction] {
    switch frame.action {
    case .message(let message):
      write(
        .message(message.content), message.channelID, to: message.recipient, message.clientID, view)
    case .change(let change): write(change.body, change.channelID, change.clientID, view)
    case .seen(let channel, let seq):
      tell(channel, frame.clientID, view) {
        .markRead($0, seq: seq, channelID: channel, clientID: frame.clientID)
      }
    case .typing(let channel):
      tell(channel, frame.clientID, view) {
        .typing($0, channelID: channel, clientID: frame.clientID)
      }
    case .watch(let users): watch(users, frame.clientID)
    case .subscribe(let channels): subscribe(channels, frame.clientID, view)
    case .unsubscribe(let channels): unsubscribe(channels, frame.clientID, view)
    case .resume(let epoch, let channels): resume(epoch, channels, frame.clientID, view)
    case .auth(let token): authenticate(token, frame.clientID)
    }
  }

  private func fail(
    _ code: ErrorCode, clientID: String?, channel: String? = nil
  ) -> SocketAction {
    .answer(
      .relay(.error(code, code.meaning, clientID: clientID, channelID: channel)))
  }

  private func fail(_ failure: RelayFrame.Failure) -> SocketAction {
    .answer(
      .relay(
        .error(
          failure.code, failure.message, clientID: failure.clientID,
          channelID: failure.channelID)))
  }

  private mutating func write(
    _ body: EntryBody, _ channel: String, to recipient: UserID? = nil, _ clientID: String?,
    _ view: some SocketView
  ) -> [SocketAction] {
    switch room(channel, to: recipient, view) {
    case .refused(let code): return [fail(code, clientID: clientID, channel: channel)]
    case .room(let id):
      var entry = OutgoingEntry(roomID: id, channelID: channel, body: body, clientID: clientID)
      if Self.name(channel, to: recipient, view) == nil { entry.recipient = recipient }
      guard body.hasReferences else { return [.write(entry)] }
      isAsking = true
      return [.examine(entry)]
    }
  }

  /// Returns the action for the room that a channel means, or the error.
  private func tell(
    _ channel: String, _ clientID: String?, _ view: some SocketView,
    _ action: (RoomID) -> SocketAction
  ) -> [SocketAction] {
    switch room(channel, view) {
    case .refused(let code): [fail(code, clientID: clientID, channel: channel)]
    case .room(let id): [action(id)]
    }
  }

  private mutating func watch(_ users: [UserID], _ clientID: String?) -> [SocketAction] {
    isAsking = true
    return [.watch(users, clientID: clientID)]
  }

  // MARK: Names

  /// The name of a team's room, if the channel is one; nil for the number of another room.
  private static func name(
    _ channel: String, to member: UserID?, _ view: some SocketView
  ) -> ChannelName? {
    if let team = TeamID(channel) { return ChannelName(team: team, member: member) }
    // The number of a team's channel, too, stands for the team.
    guard let member, let room = RoomID(channel), let team = view.team(ofChannel: room) else {
      return nil
    }
    return ChannelName(team: team, member: member)
  }

  /// The names in a frame whose rooms are not known.
  private func unknownNames(in frame: RelayFrame, _ view: some SocketView) -> [ChannelName] {
    var recipient: UserID?
    if case .message(let message) = frame.action { recipient = message.recipient }
    var unknown: [ChannelName] = []
    for channel in frame.channels {
      guard let name = Self.name(channel, to: recipient, view), resolutions[name] == nil,
        view.room(named: name) == nil
      else { continue }
      unknown.append(name)
    }
    return unknown
  }

  /// The rooms of the frame that waits were looked up. The frame is served now.
  private mutating func resolved(
    _ found: [ChannelName: Resolution], _ view: some SocketView
  ) -> [SocketAction] {
    guard let frame = resolving else { return [] }
    resolving = nil
    resolutions = found
    defer { resolutions = [:] }
    return serve(frame, view)
  }

  /// The room that a channel means.
  private func room(
    _ channel: String, to recipient: UserID? = nil, _ view: some SocketView
  ) -> Resolution {
    guard let name = Self.name(channel, to: recipient, view) else {
      return RoomID(channel).map { .room($0) } ?? .refused(.roomNotFound)
    }
    if let room = view.room(named: name) { return .room(room) }
    return resolutions[name] ?? .refused(.roomNotFound)
  }

  private mutating func authenticate(
    _ token: Secret<String>, _ clientID: String?
  ) -> [SocketAction] {
    authClientID = clientID
    return [.authenticate(token)]
  }

  private mutating func takeAuthClientID() -> String? {
    defer { authClientID = nil }
    return authClientID
  }

  // MARK: Acknowledgements

  /// Acknowledges an entry, after its broadcast on the same socket. Holds the ack while the socket is behind in the
  /// room.
  private mutating func committed(_ entry: Entry, _ view: some SocketView) -> [SocketAction] {
    guard entry.clientID != nil else { return [] }
    guard view.isBehind(in: entry.roomID) else {
      return [.send(.relay(.ack(entry)), after: entry.roomID)]
    }
    acks.hold(entry)
    return acks.bytes > maximumHeldBytes ? [.close(.slowReader)] : []
  }

  /// Sends the held acks of a room, if the socket has been sent their entries by now.
  private mutating func releaseAcks(_ id: RoomID, _ view: some SocketView) -> [SocketAction] {
    guard acks.holds(id), !view.isBehind(in: id) else { return [] }
    return acks.release(id).map { .send(.relay(.ack($0)), after: id) }
  }

  // MARK: Subscriptions

  /// Returns the rooms that the channels name, each with its channel. The actions are errors for channels that name no
  /// room, and `prepare` if there are several rooms.
  private func rooms<Element>(
    _ channels: [Element], _ name: (Element) -> String, _ clientID: String?,
    _ view: some SocketView
  ) -> (rooms: [(id: RoomID, element: Element)], actions: [SocketAction]) {
    var rooms: [(RoomID, Element)] = []
    var actions: [SocketAction] = []
    for element in channels {
      switch room(name(element), view) {
      case .room(let id): rooms.append((id, element))
      case .refused(let code):
        actions.append(fail(code, clientID: clientID, channel: name(element)))
      }
    }
    if rooms.count > 1 { actions.append(.prepare(rooms.map(\.0))) }
    return (rooms, actions)
  }

  private mutating func subscribe(
    _ channels: [String], _ clientID: String?, _ view: some SocketView
  ) -> [SocketAction] {
    let (rooms, actions) = rooms(channels, \.self, clientID, view)
    for (id, _) in rooms {
      left.remove(id)
      subscribed.insert(id)
    }
    guard !rooms.isEmpty else { return actions }
    return actions + [.attach(rooms.map(\.id)[...], .subscribe(clientID: clientID))]
  }

  private mutating func unsubscribe(
    _ channels: [String], _ clientID: String?, _ view: some SocketView
  ) -> [SocketAction] {
    let (rooms, actions) = rooms(channels, \.self, clientID, view)
    for (id, _) in rooms { left.insert(id) }
    guard !rooms.isEmpty else { return actions }
    return actions + [.leave(rooms.map(\.id)[...], clientID: clientID)]
  }

  private mutating func resume(
    _ epoch: String?, _ channels: [(channelID: String, last: Int64)], _ clientID: String?,
    _ view: some SocketView
  ) -> [SocketAction] {
    let isSameLog = epoch == nil || epoch == view.epoch
    let budget = ReplayBudget()
    var (rooms, actions) = rooms(channels, \.channelID, clientID, view)
    for (id, channel) in rooms {
      left.remove(id)
      subscribed.insert(id)
      // A seq of another log means nothing in this one. A negative seq asks for a reset.
      let last = isSameLog ? channel.last : -1
      actions.append(.attach([id], .resume(last: last, clientID: clientID, budget: budget)))
    }
    return actions
  }

  private mutating func receive(_ notification: RoomNotification, _ view: some SocketView)
    -> [SocketAction]
  {
    switch notification {
    case .admitted(let room, let purpose, let seq):
      return admitted(room.id, purpose, seq, view) + releaseAcks(room.id, view)
    case .refused(let id, let purpose, let code):
      return refused(id, purpose, code, view) + releaseAcks(id, view)
    case .revoked(let id, let channelID, let code):
      subscribed.remove(id)
      return [.send(.relay(.gone(id, channelID: channelID, code)))] + releaseAcks(id, view)
    case .left(let id, let seq, _):
      // If the client has subscribed to the room again meanwhile, the room stays subscribed.
      if !view.isSubscribed(to: id) { subscribed.remove(id) }
      return [position(.unsubscribed, id, seq)] + releaseAcks(id, view)
    case .replayed(let entries): return entries.map { .replay($0) }
    case .resumed(let room, let seq): return [position(.resumed, room.id, seq)]
    case .joined(let room): return releaseAcks(room.id, view)
    case .reset(let room, let seq):
      return [position(.reset, room.id, seq)] + releaseAcks(room.id, view)
    case .becameReadable(let id): return becameReadable(id)
    }
  }

  private func position(
    _ word: RelayAnswer.Position, _ id: RoomID, _ seq: Int64
  ) -> SocketAction {
    .send(.relay(.position(word, id, seq: seq)), of: id)
  }

  private mutating func admitted(
    _ id: RoomID, _ purpose: RoomFeed.Purpose, _ seq: Int64, _ view: some SocketView
  ) -> [SocketAction] {
    subscribed.insert(id)
    switch purpose {
    case .listed: return entered((id, seq), view)
    case .resume: return []
    case .subscribe: return [position(.subscribed, id, seq)]
    case .became: return [position(.channel, id, seq)]
    }
  }

  private mutating func refused(
    _ id: RoomID, _ purpose: RoomFeed.Purpose, _ code: ErrorCode, _ view: some SocketView
  ) -> [SocketAction] {
    // A room that is refused only because the client asks too often stays as it is.
    if code != .rateLimited { subscribed.remove(id) }
    // The client cannot enter this room, so there is nothing to remember about leaving it.
    if code == .roomNotFound { left.remove(id) }
    switch purpose {
    case .listed: return entered(nil, view)
    case .became:
      // The room could not be read now, so it is looked for again later.
      if code == .unavailable, case .idle = following {
        following = .waiting(until: view.now + Self.followAgainMilliseconds)
      }
      return []
    case .subscribe(let clientID), .resume(_, let clientID, _):
      return [fail(code, clientID: clientID, channel: view.channelID(of: id))]
    }
  }

  // MARK: Opening

  private mutating func listed(_ ids: [RoomID], _ hasMore: Bool) -> [SocketAction] {
    if case .opening(var opening) = state {
      listsAllRooms = !hasMore
      opening.rooms = ids
      state = .opening(opening)
      return [.load(ids)]
    }
    var isAgain = false
    if case .searching(let again) = following { isAgain = again }
    following = .idle
    return follow(ids) + (isAgain ? search() : [])
  }

  private mutating func notListed(_ view: some SocketView) -> [SocketAction] {
    if case .opening = state { return [.close(.unavailable)] }
    following = .waiting(until: view.now + Self.followAgainMilliseconds)
    return []
  }

  private mutating func loaded(_ failure: AppError?, _ view: some SocketView) -> [SocketAction] {
    guard case .opening(let opening) = state else { return [] }
    if failure != nil { return [.close(.unavailable)] }
    if opening.isOutdated {
      state = .opening(Opening())
      return [.list]
    }
    if listsAllRooms, !becameReadable.isSubset(of: opening.rooms) {
      let all = Set(opening.rooms).union(becameReadable).sorted()
      state = .opening(Opening(rooms: all))
      return [.load(all)]
    }
    return enter(opening.rooms, view)
  }

  /// Subscribes to these rooms, then sends `ready`. Entries that arrive meanwhile are held back and sent after it.
  private mutating func enter(_ ids: [RoomID], _ view: some SocketView) -> [SocketAction] {
    let served = ids.filter { view.isServed($0) }
    guard !served.isEmpty else { return [.cork] + ready([], view) }
    state = .entering(left: served.count, heads: [])
    subscribed.formUnion(served)
    return [.cork, .attach(served[...], .listed)]
  }

  /// Counts the answer of one room that `enter` subscribed to. `head` is nil if the room was refused. The last answer
  /// leads to `ready`.
  private mutating func entered(_ head: RoomHead?, _ view: some SocketView) -> [SocketAction] {
    guard case .entering(let left, var heads) = state else { return [] }
    if let head { heads.append(head) }
    guard left == 1 else {
      state = .entering(left: left - 1, heads: heads)
      return []
    }
    return ready(heads, view)
  }

  private mutating func ready(_ heads: [RoomHead], _ view: some SocketView) -> [SocketAction] {
    guard let caller = view.caller else { return [] }
    state = .open
    headsTold = view.headMark
    let ready = RelayAnswer.ready(
      caller, epoch: view.epoch, heartbeatSeconds: Self.heartbeatMilliseconds / 1000,
      channels: heads.sorted { $0.key < $1.key }, hasMore: !listsAllRooms)
    defer {
      becameReadable = []
      invitations = []
    }
    // First `ready`, then what arrived while it was being prepared and is not part of it.
    return [.uncork(.relay(ready))] + follow(becameReadable.sorted()) + invitations
  }

  // MARK: What the caller may do

  private mutating func claimsChanged() -> [SocketAction] {
    guard followsAllRooms else { return [] }
    switch state {
    case .opening(var opening):
      opening.isOutdated = true
      state = .opening(opening)
      return []
    case .entering, .open: return search()
    }
  }

  /// Searches for rooms that new rights made readable. If rights change during the search, another search follows it.
  private mutating func search() -> [SocketAction] {
    switch following {
    case .searching:
      following = .searching(again: true)
      return []
    case .idle, .waiting:
      following = .searching(again: false)
      return [.list]
    }
  }

  /// Subscribes to those of the rooms that the client does not hear and has not left.
  private mutating func follow(_ ids: [RoomID]) -> [SocketAction] {
    let new = ids.filter { !left.contains($0) && subscribed.insert($0).inserted }
    guard !new.isEmpty else { return [] }
    // Several rooms are read together.
    let prepare: [SocketAction] = new.count > 1 ? [.prepare(new)] : []
    return prepare + [.attach(new[...], .became)]
  }

  private mutating func becameReadable(_ id: RoomID) -> [SocketAction] {
    guard followsAllRooms else { return [] }
    if case .open = state { return follow([id]) }
    // `ready` comes first. It lists the room, or the room is followed right after it.
    becameReadable.insert(id)
    return []
  }

  private mutating func invited(
    to room: Room, _ rule: RoomRule, _ view: some SocketView
  ) -> [SocketAction] {
    guard let caller = view.caller else { return [] }
    let frame = SocketAction.send(
      .relay(.invitation(to: room, rule, isForUser: rule.subject == caller.userID.uuid)))
    if case .open = state { return [frame] }
    // `ready` comes first.
    invitations.append(frame)
    return []
  }

  // MARK: Time

  private mutating func tick(_ view: some SocketView) -> [SocketAction] {
    guard case .open = state else {
      return view.now >= openingDue ? [.close(.unavailable)] : []
    }
    var actions: [SocketAction] = []
    if case .waiting(let until) = following, view.now >= until {
      following = .idle
      actions = search()
    }
    guard view.now >= heartbeatDue else { return actions }
    heartbeatDue = view.now + Self.heartbeatMilliseconds
    guard view.mayServe else {
      // The heartbeat still shows that the connection works, but nothing may be told about rooms now.
      return actions + [.answer(.relay(.heartbeat([])))]
    }
    let moved = view.movedHeads(of: subscribed, since: headsTold)
    headsTold = view.headMark
    return actions + [.sendHeads(moved)]
  }
}
