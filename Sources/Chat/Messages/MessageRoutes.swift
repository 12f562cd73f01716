internal import Access
package import Basics
package import Events
package import Web
internal import Words

/// The HTTP routes of messages: under `/v1`, and under the paths that clients of nano-messaging use.
package struct MessageRoutes: Sendable {
  private let rooms: Rooms
  private let history: MessageHistory
  private let roomList: RoomList
  private let writer: MessageWriter
  private let maximumContentBytes: Int
  private let pages = AsyncSemaphore(permits: pagesAtOnce)

  /// `maximumContentBytes` is the largest `data` of a message, in bytes of UTF-8.
  package init(
    rooms: Rooms, history: MessageHistory, roomList: RoomList, writer: MessageWriter,
    maximumContentBytes: Int
  ) {
    self.rooms = rooms
    self.history = history
    self.roomList = roomList
    self.writer = writer
    self.maximumContentBytes = maximumContentBytes
  }

  package func add(to router: inout Router) {
    for prefix in ["/v1/rooms", "/rooms"] {
      let messages = prefix + "/{id}/messages"
      router.on(.get, messages, policy: .room(.read)) { try await list($0, $1) }
      router.on(.post, messages, policy: .room(.write)) { try await post($0, $1) }
      let message = messages + "/{seq}"
      router.on(.get, message, policy: .room(.read)) { (request, id: RoomID, seq: SeqInPath) in
        let found = try await history.message(seq.value, in: id, as: request.caller)
        return .data { $0.value(found, for: request.caller.userID) }
      }
      router.on(.patch, message, policy: .room(.writeOwnMessage)) { try await edit($0, $1, $2) }
      router.on(.delete, message, policy: .room(.manageOrOwnMessage)) {
        (request, id: RoomID, seq: SeqInPath) in
        _ = try await writer.write(.deletion(of: seq.value), in: id, as: request.caller)
        return .noContent
      }
      router.on(.get, message + "/edits", policy: .room(.readAndManageOrOwnMessage)) {
        try await edits($0, $1, $2)
      }
      router.on(.get, message + "/reactions", policy: .room(.read)) {
        try await reactions($0, $1, $2)
      }
      let reaction = message + "/reactions/{emoji}"
      router.on(.put, reaction, policy: .room(.write), body: .empty) {
        (request, id: RoomID, seq: SeqInPath, emoji: EmojiInPath) in
        try await react(request, id, seq, emoji, isRemoved: false)
        let message = try await history.reacted(seq.value, in: id, by: request.caller)
        return .data { $0.value(message, for: request.caller.userID) }
      }
      router.on(.delete, reaction, policy: .room(.write)) {
        (request, id: RoomID, seq: SeqInPath, emoji: EmojiInPath) in
        try await react(request, id, seq, emoji, isRemoved: true)
        return .noContent
      }
    }
  }

  // MARK: Reading

  private func list(_ request: AuthenticatedRequest, _ id: RoomID) async throws -> Response {
    let selection = try await rooms.form(of: request, id, .read) { try self.selection(&$0) }
    try await roomList.start(request.caller, in: id)
    return try await pages.withPermit { try await page(of: id, selection, request) }
  }

  private func selection(_ fields: inout Fields) throws -> MessageHistory.Selection {
    let page = PageRequest(&fields)
    var selection = MessageHistory.Selection(
      before: fields.optionalInteger("before", 0...Fields.largestInteger),
      after: fields.optionalInteger("after", 0...Fields.largestInteger),
      from: fields.optionalTime("from"), to: fields.optionalTime("to"), isAscending: false,
      limit: page.limit)
    selection.isAscending = selection.after != nil
    if let cursor = page.cursor {
      // The seq after which to continue, in the direction of the first page.
      let seq = positiveDecimal(cursor)
      if seq == nil { fields.fault("cursor", "is not one of ours") }
      if selection.isAscending { selection.after = seq } else { selection.before = seq }
    }
    try fields.finish()
    return selection
  }

  private func page(
    of id: RoomID, _ selection: MessageHistory.Selection, _ request: AuthenticatedRequest
  ) async throws -> Response {
    let caller = request.caller
    let found = try await history.messages(in: id, as: caller, selection)
    var page = ListPage()
    var last: Int64?
    var nextTurnAt = Self.bytesPerTurn
    for message in found.messages {
      guard page.append({ $0.value(message, for: caller.userID) }) else { break }
      last = message.entry.seq
      // Lets other work run between the parts of a large page.
      if page.count > nextTurnAt {
        nextTurnAt = page.count + Self.bytesPerTurn
        await request.request.yieldToLoop()
      }
    }
    let hasMore = found.hasMore || last != found.messages.last?.entry.seq
    return page.finish(nextCursor: hasMore ? last.map { String($0) } : nil)
  }

  /// The most pages that are read and written concurrently. Each takes a few MiB meanwhile.
  private static let pagesAtOnce = 8
  /// The bytes of a page that are written in one turn of the loop.
  private static let bytesPerTurn = 128 * 1024

  private func edits(
    _ request: AuthenticatedRequest, _ id: RoomID, _ seq: SeqInPath
  ) async throws -> Response {
    let (limit, after) = try await rooms.form(of: request, id, .read) { try self.place(&$0) }
    let texts = try await history.earlierTexts(
      of: seq.value, in: id, as: request.caller, after: after, limit: limit + 1)
    return .list(texts, limit: limit) {
      String($0.seq)
    } _: {
      $0.value($1)
    }
  }

  private func reactions(
    _ request: AuthenticatedRequest, _ id: RoomID, _ seq: SeqInPath
  ) async throws -> Response {
    let (limit, after) = try await rooms.form(of: request, id, .read) { try self.place(&$0) }
    let reactions = try await history.reactions(
      to: seq.value, in: id, as: request.caller, after: after, limit: limit + 1)
    return .list(reactions, limit: limit) {
      String($0.seq)
    } _: {
      $0.value($1)
    }
  }

  /// The parameters of a list whose cursor is the seq of its last element.
  private func place(_ fields: inout Fields) throws -> (limit: Int, after: Int64) {
    let page = PageRequest(&fields)
    let after = page.cursor.flatMap(positiveDecimal)
    if page.cursor != nil, after == nil { fields.fault("cursor", "is not one of ours") }
    try fields.finish()
    return (page.limit, after ?? 0)
  }

  // MARK: Writing

  private func post(_ request: AuthenticatedRequest, _ id: RoomID) async throws -> Response {
    let form = try await rooms.form(of: request, id, .write) { fields in
      try MessageForm(&fields, maximumContentBytes: maximumContentBytes)
    }
    let caller = request.caller
    let room = try await writer.room(id, to: form.recipient, as: caller)
    switch try await writer.write(form.body, in: room, clientID: form.clientID, as: caller) {
    case .new(let entry):
      // A forwarded message names its room to those who may read it, and who forwards may.
      var message = MessageView(new: entry)
      message.isSourceReadable = true
      return .data(status: 201) { $0.value(message, for: caller.userID) }
    case .known(let entry):
      let message = try await history.written(entry.seq, in: room, by: caller)
      return .data { $0.value(message, for: caller.userID) }
    }
  }

  private func edit(
    _ request: AuthenticatedRequest, _ id: RoomID, _ seq: SeqInPath
  ) async throws -> Response {
    let (data, mentions) = try await rooms.form(of: request, id, .write) {
      fields -> (String, [UserID]?) in
      let data = try fields.messageData(maximumBytes: maximumContentBytes)
      let mentions = fields.optionalMentions()
      try fields.finish()
      return (data, mentions)
    }
    _ = try await writer.write(
      .edit(of: seq.value, data: data, mentions: mentions), in: id, as: request.caller)
    let message = try await history.written(seq.value, in: id, by: request.caller)
    return .data { $0.value(message, for: request.caller.userID) }
  }

  private func react(
    _ request: AuthenticatedRequest, _ id: RoomID, _ seq: SeqInPath, _ emoji: EmojiInPath,
    isRemoved: Bool
  ) async throws {
    guard Emoji.isOne(emoji.text) else {
      try await rooms.requireRight(.write, in: id, of: request.caller)
      throw AppError(
        .validationFailed, details: [.init(field: "emoji", message: "must be one emoji")])
    }
    _ = try await writer.write(
      .reaction(to: seq.value, emoji: emoji.text, isRemoved: isRemoved), in: id,
      as: request.caller)
  }
}

/// The body of a request to send a message.
private struct MessageForm {
  let body: EntryBody
  let clientID: String?
  /// The one member of a team whom the message is for; nil for everyone in the room.
  let recipient: UserID?

  /// Throws `validation_failed` or `message_too_large`.
  init(_ fields: inout Fields, maximumContentBytes: Int) throws {
    let type = fields.has("type") ? fields.word("type", as: MessageType.self) ?? .text : .text
    let forward = fields.optionalForward()
    if forward != nil, fields.has("data") || fields.has("content") {
      fields.fault("forward_of", "cannot be given together with data")
    }
    let data =
      fields.has("forward_of") ? "" : try fields.messageData(maximumBytes: maximumContentBytes)
    clientID = fields.optionalClientID()
    recipient = fields.recipient()
    let extras = MessageExtras.make(
      replyTo: fields.optionalInteger("reply_to", 1...Fields.largestInteger),
      mentions: fields.optionalMentions() ?? [], forward: forward)
    try fields.finish()
    // A forwarded message has the type of its source.
    body = .message(
      MessageContent(type: forward == nil ? type : .text, data: data, extras: extras))
  }
}

extension Fields {
  /// Reads the text of a message, which may be called `data` or `content`. Throws `message_too_large`.
  fileprivate mutating func messageData(maximumBytes: Int) throws(AppError) -> String {
    let name = has("data") ? "data" : "content"
    guard case .string(let data)? = value(name) else {
      fault("data", "must be a string")
      return ""
    }
    if name == "data", has("content"),
      value("content")?.string.map({ $0.utf8.elementsEqual(data.utf8) }) != true
    {
      fault("content", "disagrees with data")
    }
    if data.utf8.count > maximumBytes { throw AppError(.messageTooLarge) }
    if data.isEmpty { fault(name, "must have at least one byte") }
    if data.containsNUL { fault(name, "must not hold U+0000") }
    return data
  }

  /// Reads the ids of up to 50 people; nil if there are none given. Each is in the result once.
  fileprivate mutating func optionalMentions() -> [UserID]? {
    guard has("mentions") else { return nil }
    let most = MessageReferences.maximumMentions
    guard let users = value("mentions")?.userIDs(atMost: most) else {
      fault("mentions", "must be a list of at most \(most) ids of users")
      return []
    }
    return users
  }

  private static let clientIDBytes = 1...64

  fileprivate mutating func optionalClientID() -> String? {
    guard has("client_id") else { return nil }
    guard let id = value("client_id")?.string, Self.clientIDBytes.contains(id.utf8.count),
      !id.containsNUL
    else {
      fault("client_id", "must have 1 to 64 bytes, without U+0000")
      return nil
    }
    return id
  }

  /// Reads `to`; nil for `*`, which is also the default.
  fileprivate mutating func recipient() -> UserID? {
    guard has("to"), value("to")?.string != "*" else { return nil }
    guard let user = value("to")?.string.flatMap({ UserID($0) }) else {
      fault("to", "must be * or the id of a user")
      return nil
    }
    return user
  }

  fileprivate mutating func optionalForward() -> Forward? {
    guard has("forward_of") else { return nil }
    guard let forward = value("forward_of")?.forwardOf else {
      fault("forward_of", "must have a room_id and a seq")
      return nil
    }
    return forward
  }
}

extension JSON {
  /// The ids in a list of at most so many, each once; nil for anything else.
  package func userIDs(atMost limit: Int) -> [UserID]? {
    guard case .array(let values) = self, values.count <= limit else { return nil }
    var users: [UserID] = []
    var seen: Set<UserID> = []
    for value in values {
      guard let user = value.string.flatMap({ UserID($0) }) else { return nil }
      if seen.insert(user).inserted { users.append(user) }
    }
    return users
  }

  /// The place of a message to forward, `{"room_id","seq"}`; nil for anything else. `MessageReferences` finds the rest.
  package var forwardOf: Forward? {
    guard let room = object?["room_id"]?.wholeNumberOrNumericString, room > 0,
      let seq = object?["seq"]?.wholeNumberOrNumericString, (1...Fields.largestInteger) ~= seq
    else { return nil }
    return Forward(message: MessageID(.zero), from: nil, room: RoomID(room), seq: seq)
  }
}

// MARK: Path parameters

/// The seq of a message.
struct SeqInPath: PathParameter {
  let value: Int64

  init?(pathComponent: String) {
    guard let value = positiveDecimal(pathComponent), value <= Fields.largestInteger else {
      return nil
    }
    self.value = value
  }

  static var notFound: ErrorCode { .messageNotFound }
}

/// Any text; the route checks it once it knows that the caller may write.
private struct EmojiInPath: PathParameter {
  let text: String

  init?(pathComponent: String) { text = pathComponent }

  static var notFound: ErrorCode { .notFound }
}
