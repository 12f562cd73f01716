internal import Access
internal import Basics
package import Web

/// The HTTP routes of what people have read, and of the list of their rooms.
package struct MarkRoutes: Sendable {
  private let rooms: Rooms
  private let list: RoomList
  private let marks: ReadMarks

  package init(rooms: Rooms, list: RoomList, marks: ReadMarks) {
    self.rooms = rooms
    self.list = list
    self.marks = marks
  }

  package func add(to router: inout Router) {
    router.on(.get, "/v1/me/rooms", policy: .caller) { try await myRooms($0) }
    for room in ["/v1/rooms/{id}", "/rooms/{id}"] {
      router.on(.put, room + "/read", policy: .room(.read)) { (request, id: RoomID) in
        let seq = try await rooms.form(of: request, id, .read) { fields in
          let seq = fields.integer("seq", 0...Fields.largestInteger)
          try fields.finish()
          return seq
        }
        let state = try await marks.move(to: seq, in: id, by: request.caller)
        return .data { $0.value(state, in: id) }
      }
      router.on(.put, room + "/me", policy: .room(.read)) { try await mute($0, $1) }
      router.on(.get, room + "/messages/{seq}/seen", policy: .room(.read)) {
        try await seen($0, $1, $2)
      }
    }
  }

  private func myRooms(_ request: AuthenticatedRequest) async throws -> Response {
    var fields = request.query.fields
    let page = PageRequest(&fields)
    let kind = fields.has("kind") ? fields.word("kind", as: RoomKind.self) : nil
    let isUnreadOnly = fields.has("unread") ? fields.word("unread", as: Flag.self) == .true : false
    let place = page.cursor.flatMap { RoomPlace($0) }
    if page.cursor != nil, place == nil { fields.fault("cursor", "is not one of ours") }
    try fields.finish()
    let items = try await list.list(
      for: request.caller,
      RoomList.Selection(
        kind: kind, isUnreadOnly: isUnreadOnly, behind: place.map { ($0.time, $0.room) },
        limit: page.limit))
    let caller = request.caller.userID
    return .list(items, limit: page.limit) {
      RoomPlace(time: $0.activeAt, room: $0.view.room.id).description
    } _: {
      $0.value($1, for: caller)
    }
  }

  private enum Flag: String, CaseIterable { case `true`, `false` }

  private func mute(_ request: AuthenticatedRequest, _ id: RoomID) async throws -> Response {
    let (isMuted, until) = try await rooms.form(of: request, id, .read) {
      fields -> (Bool?, Timestamp??) in
      let isMuted = fields.optionalBool("is_muted")
      var until: Timestamp??
      if fields.has("muted_until") {
        if case .null? = fields.value("muted_until") {
          until = .some(nil)
        } else {
          until = .some(fields.optionalTime("muted_until"))
        }
      }
      try fields.finish()
      return (isMuted, until)
    }
    let old = try await list.state(in: id, of: request.caller)
    // A time alone mutes until then.
    let state = try await list.mute(
      id, isMuted: isMuted ?? (until.map { $0 != nil } ?? old.isMuted),
      until: until ?? old.mutedUntil, by: request.caller)
    return .data { $0.value(state, in: id, withMute: true) }
  }

  private func seen(
    _ request: AuthenticatedRequest, _ id: RoomID, _ seq: SeqInPath
  ) async throws -> Response {
    let (page, place) = try await rooms.form(of: request, id, .read) { fields in
      let page = PageRequest(&fields)
      let place = page.cursor.flatMap { ListPlace($0) }
      if page.cursor != nil, place == nil { fields.fault("cursor", "is not one of ours") }
      try fields.finish()
      return (page, place)
    }
    let readers = try await list.readers(
      of: seq.value, in: id, as: request.caller,
      behind: place.map { ($0.time, UserID($0.id)) }, limit: page.limit + 1)
    return .list(readers, limit: page.limit) {
      ListPlace(time: $0.seenAt, id: $0.userID.uuid).description
    } _: { writer, reader in
      writer.object {
        $0.member("user_id", reader.userID)
        $0.member("seen_at", reader.seenAt)
      }
    }
  }
}

/// A place in the list of rooms, as a cursor.
private struct RoomPlace: CustomStringConvertible {
  let time: Timestamp
  let room: RoomID

  init(time: Timestamp, room: RoomID) {
    self.time = time
    self.room = room
  }

  init?(_ cursor: String) {
    let parts = cursor.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 2, let time = Int64(parts[0]), let room = RoomID(String(parts[1])) else {
      return nil
    }
    self.init(time: Timestamp(milliseconds: time), room: room)
  }

  var description: String { "\(time.milliseconds).\(room)" }
}

// MARK: - JSON

extension JSONWriter {
  fileprivate mutating func value(_ state: RoomState, in room: RoomID, withMute: Bool = false) {
    object {
      $0.member("room_id", room.value)
      $0.members(of: state)
      if withMute { $0.mute(of: state) }
    }
  }

  private mutating func members(of state: RoomState) {
    member("last_read_seq", state.lastReadSeq ?? state.head)
    member("unread", state.unread)
    member("mentions", state.mentions)
  }

  private mutating func mute(of state: RoomState) {
    member("is_muted", state.isMuted)
    if let until = state.mutedUntil { member("muted_until", until) }
  }

  /// A room, with what the caller has read of it.
  fileprivate mutating func value(_ item: RoomList.Item, for caller: UserID) {
    object {
      $0.members(of: item.view)
      if let message = item.lastMessage {
        $0.key("last_message")
        $0.value(message, for: caller)
      } else {
        $0.nullMember("last_message")
      }
      $0.members(of: item.state)
      $0.mute(of: item.state)
    }
  }
}
