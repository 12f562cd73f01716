package import Access
package import Accounts
package import Basics
package import Database
package import Events

/// The limits of rooms.
package struct RoomLimits: Sendable {
  /// The most rules of a room, besides those that only ban a person.
  package var rules: Int
  /// The most people who are named in a room.
  package var people: Int
  /// The most rooms that one person may have made.
  package var roomsPerPerson: Int
  /// The `levelOnEntity` that making a room needs.
  package var levelToCreate: Int64

  package init(rules: Int, people: Int, roomsPerPerson: Int, levelToCreate: Int64) {
    self.rules = rules
    self.people = people
    self.roomsPerPerson = roomsPerPerson
    self.levelToCreate = levelToCreate
  }
}

/// The operations on rooms, their rules and their people.
///
/// Every operation checks the caller's right on the state that it reads in its own transaction. Strangers learn
/// nothing: a room that does not exist and a room of others give the same 404.
package final class Rooms: Sendable {
  let database: any SQLDatabase
  let events: EventStream
  package let directory: RoomDirectory
  let appender: LogAppender
  let circle: Circle
  let maximumRules: Int
  let maximumPeople: Int
  private let maximumRooms: Int
  private let levelToCreate: Int64

  package init(
    database: any SQLDatabase, events: EventStream, directory: RoomDirectory,
    appender: LogAppender, circle: Circle, limits: RoomLimits
  ) {
    self.database = database
    self.events = events
    self.directory = directory
    self.appender = appender
    self.circle = circle
    maximumRules = limits.rules
    maximumPeople = limits.people
    maximumRooms = limits.roomsPerPerson
    levelToCreate = limits.levelToCreate
  }

  /// A room as a caller sees it.
  package struct View: Sendable {
    package let room: Room
    package let standing: Standing
    /// 0 for an empty log.
    package let lastSeq: Int64
    /// The seq of the last message; 0 if there is none.
    let messageSeq: Int64
    /// The time of the last message; 0 milliseconds if there is none.
    let lastMessageAt: Timestamp
    /// How many people are named in the room, or for a channel, are in the team.
    package let peopleCount: Int64
    /// The other one of a dialog, if that is an account of this server.
    package let peer: Peer?
  }

  package struct Peer: Sendable {
    package let id: UserID
    package let name: String
  }

  // MARK: Access

  /// Returns the room and the caller's standing in it. Throws `room_not_found`, `forbidden` or `managed_by_team` unless
  /// the caller has this right.
  func require(
    _ right: RoomRight, _ caller: Caller, _ room: Room?
  ) throws(AppError) -> (Room, Standing) {
    guard let room else { throw AppError(.roomNotFound) }
    let standing = RuleEngine.standing(of: caller, in: room)
    guard standing.isMember else { throw AppError(.roomNotFound) }
    // Not even a manager may: a channel, its rules and its people follow the team.
    if right == .manage, room.kind == .channel { throw AppError(.managedByTeam) }
    guard RuleEngine.allows(right, standing, room) else { throw AppError(.forbidden) }
    return (room, standing)
  }

  /// Throws what an operation that needs this right would throw if the caller does not have it.
  package func requireRight(
    _ right: RoomRight, in id: RoomID, of caller: Caller
  ) async throws {
    let room = try await database.read { try await self.directory.read(id, in: $0) }
    if right == .invited, let room, RuleEngine.isInvited(caller, to: room) { return }
    _ = try self.require(right, caller, room)
  }

  /// The room with its head in one snapshot, if the caller has this right in it.
  package func view(_ id: RoomID, as caller: Caller, _ right: RoomRight) async throws -> View {
    try await database.read { transaction in
      let room = try await self.directory.read(id, in: transaction)
      let (found, _) = try self.require(right, caller, room)
      return try await Self.view(found, for: caller, in: transaction)
    }
  }

  static func view(
    _ room: Room, for caller: Caller, in transaction: Transaction
  ) async throws -> View {
    try await views([room], for: caller, in: transaction)[0]
  }

  /// Returns one view for each room, in their order.
  static func views(
    _ rooms: [Room], for caller: Caller, in transaction: Transaction
  ) async throws -> [View] {
    let heads = try await RoomStore.heads(rooms.map(\.id), in: transaction)
    let names = try await People.names(
      of: rooms.compactMap { peer(of: caller.userID, in: $0) }, in: transaction)
    let counts = try await People.memberCounts(
      of: rooms.filter { $0.kind == .channel }.compactMap(\.properties.team), in: transaction)
    return rooms.map { room in
      let head = heads[room.id]
      let peer = peer(of: caller.userID, in: room).flatMap { id in
        names[id].map { Peer(id: id, name: $0) }
      }
      return View(
        room: room, standing: RuleEngine.standing(of: caller, in: room),
        lastSeq: head?.lastSeq ?? 0, messageSeq: head?.messageSeq ?? 0,
        lastMessageAt: head?.messageTime ?? Timestamp(milliseconds: 0),
        peopleCount: room.kind == .channel
          ? room.properties.team.flatMap { counts[$0] } ?? 0 : Int64(room.people.count),
        peer: peer)
    }
  }

  /// Returns the other person of a dialog: from its pair or, if it has none, from its rules.
  private static func peer(of user: UserID, in room: Room) -> UserID? {
    guard room.kind == .dialog else { return nil }
    if let pair = room.properties.pair { return pair.other(than: user) }
    return room.rules.first { $0.subject != user.uuid && !$0.permissions.contains(.banned) }
      .map { UserID($0.subject) }
  }

  /// Returns the rooms in which the caller has a letter, by ascending id above `after`; `limit` + 1 rooms if there are
  /// more than `limit`.
  package func list(for caller: Caller, after: RoomID, limit: Int) async throws -> [View] {
    try await database.read { transaction in
      var rooms: [Room] = []
      var after = after
      while rooms.count <= limit {
        let (ids, end) = try await Self.step(through: Admission.all(of: caller), limit: limit) {
          try await $0.roomIDs(after: after, limit: limit + 1, in: transaction)
        }
        for id in ids {
          guard rooms.count <= limit else { break }
          guard let room = try await self.directory.read(id, in: transaction) else { continue }
          let standing = RuleEngine.standing(of: caller, in: room)
          guard !standing.permissions.isEmpty else { continue }
          rooms.append(room)
        }
        guard let end else { break }
        after = end
      }
      return try await Self.views(rooms, for: caller, in: transaction)
    }
  }

  /// A source of a person's rooms.
  enum Admission: Hashable, Sendable {
    /// Rules for this subject.
    case rules(UUID)
    /// Being named in the room and having accepted.
    case name(UserID)
    /// The channels of the person's teams.
    case channels([RoomID])

    static func all(of caller: Caller) -> Set<Admission> {
      var all = Set(caller.subjects.map { Admission.rules($0) })
      if caller.sessionID != nil {
        all.insert(.name(caller.userID))
        all.insert(.channels(caller.channels.sorted()))
      }
      return all
    }

    /// Ids of rooms above `after`, ascending, at most `limit`.
    func roomIDs(
      after: RoomID, limit: Int, in transaction: Transaction
    ) async throws -> [RoomID] {
      switch self {
      case .rules(let subject):
        try await RoomStore.roomIDs(
          subject: subject, after: after, limit: limit, in: transaction)
      case .name(let user):
        try await RoomPeopleStore.roomIDs(
          of: user, isWaiting: false, after: after, limit: limit, in: transaction)
      case .channels(let rooms): Array(rooms.lazy.filter { $0 > after }.prefix(limit))
      }
    }
  }

  /// One step through the rooms of several sources, by ascending id. `page` returns the ids of one source, `limit`
  /// + 1 of them if there are more than `limit`. The next step begins after `end`; nil if this was the last.
  static func step<Source: Hashable>(
    through sources: Set<Source>, limit: Int, page: (Source) async throws -> [RoomID]
  ) async throws -> (ids: [RoomID], end: RoomID?) {
    var ids: Set<RoomID> = []
    var end: RoomID?
    for source in sources {
      let found = try await page(source)
      ids.formUnion(found)
      if found.count > limit, let last = found.last { end = min(end ?? last, last) }
    }
    // A source with a full page may have more rooms beyond it, so ids beyond that page wait for the next step.
    return (ids.sorted().filter { id in end.map { id <= $0 } ?? true }, end)
  }

  /// Returns the rooms that the caller may read, by ascending id. If there are more than `maximumListed`, returns those
  /// with the latest activity, and true for `hasMore`.
  package func latestReadableRooms(
    for caller: Caller
  ) async throws -> (ids: [RoomID], hasMore: Bool) {
    var found = try await readableRooms(of: caller)
    if found.count > Self.maximumListed {
      found.sort { ($0.activeAt, $0.room) > ($1.activeAt, $1.room) }
      return (found.prefix(Self.maximumListed).map(\.room).sorted(), true)
    }
    return (found.map(\.room).sorted(), false)
  }

  /// Returns the rooms that the caller may read, in no particular order.
  func readableRooms(of caller: Caller) async throws -> [ListedRoom] {
    let lines = try await database.read { transaction in
      try await RoomStore.inbox(
        of: caller, limit: Self.maximumInboxLines, in: transaction)
    }
    guard let lines else { return try await readableRoomsByPages(for: caller) }
    return RuleEngine.readable(lines, by: caller).map {
      ListedRoom(room: $0.room, kind: $0.kind, activeAt: $0.activeAt)
    }
  }

  /// Returns the rooms that the caller may read. For a caller with more than `maximumInboxLines`, whose rooms are read
  /// page by page.
  func readableRoomsByPages(
    for caller: Caller
  ) async throws -> [ListedRoom] {
    var found: [ListedRoom] = []
    var after = RoomID(0)
    while true {
      let page = try await list(for: caller, after: after, limit: Self.pageSize)
      for view in page.prefix(Self.pageSize) where view.standing.permissions.contains(.read) {
        found.append(
          ListedRoom(
            room: view.room.id, kind: view.room.kind,
            activeAt: max(view.lastMessageAt, view.room.createdAt)))
      }
      guard page.count > Self.pageSize else { return found }
      after = page[Self.pageSize - 1].room.id
    }
  }

  /// The most lines that `RoomStore.inbox` may find by one subject or other source.
  private static let maximumInboxLines = 10_000
  /// The most rooms that a socket is subscribed to without naming them.
  private static let maximumListed = 5000
  private static let pageSize = 500

  // MARK: Rooms

  /// The properties of a new room.
  package struct NewRoom: Sendable {
    package var name: String
    package var kind = RoomKind.group
    package var levelAdmin = Room.Properties.highestLevel
    package var isByInvitation = false
    package var defaultPermissions: Permissions = [.read, .write]
    /// Only for secret rooms.
    package var ttlSeconds: Int64?
    package var retentionDays: Int64?
  }

  /// Throws `forbidden` unless the caller may make rooms.
  package func requireMayCreate(_ caller: Caller) throws(AppError) {
    guard caller.level >= levelToCreate else {
      throw AppError(.forbidden, "Creating a room needs a level of \(levelToCreate).")
    }
  }

  /// Makes a room, which begins with a rule for its creator. If the creator has a token of another system, the room
  /// belongs to the token's first entity, if any, and, unless it is for two, also begins with a rule for that entity. A
  /// room of an account belongs to no entity.
  package func create(_ new: NewRoom, by caller: Caller) async throws -> View {
    try requireMayCreate(caller)
    let entity = caller.sessionID == nil ? caller.entities.first : nil
    return try await database.write { transaction in
      // One transaction at a time for each person, so that the count of rooms is right.
      try await transaction.exclusively(on: Int64(bitPattern: caller.userID.uuid.low))
      let count = try await RoomStore.roomCount(
        madeBy: caller.userID, limit: Int64(self.maximumRooms), in: transaction)
      guard count < Int64(self.maximumRooms) else { throw AppError(.tooManyRooms) }
      let id = try await RoomStore.insert(
        Room.Properties(
          name: new.name, kind: new.kind, levelAdmin: new.levelAdmin, ownerUser: caller.userID,
          ownerEntity: entity, isByInvitation: new.isByInvitation, createdAt: .now,
          defaultPermissions: new.defaultPermissions, ttlSeconds: new.ttlSeconds,
          retentionDays: new.retentionDays), in: transaction)
      try await RoomStore.put(
        RoomRule(
          subject: caller.userID.uuid, permissions: RuleEngine.creatorPermissions,
          level: caller.level, isAccepted: true), in: id, transaction)
      if new.kind.type == .group, let entity, entity != caller.userID.uuid {
        try await RoomStore.put(
          RoomRule(subject: entity, permissions: [.read, .write], level: 0, isAccepted: true),
          in: id, transaction)
      }
      if caller.sessionID != nil {
        try await RoomPeopleStore.noteAct(of: caller.userID, in: id, transaction)
      }
      try await MarkStore.start([caller.userID], in: id, transaction)
      let room = try await self.announce(id, in: transaction)
      return try await Self.view(room, for: caller, in: transaction)
    }
  }

  /// A change of a room. Nil leaves a property as it is.
  package struct RoomChange: Sendable {
    package let name: String?
    package let levelAdmin: Int64?
    package let isByInvitation: Bool?
    package let defaultPermissions: Permissions?
    /// `.some(nil)` keeps messages for good.
    package let retentionDays: Int64??
  }

  /// Changes a room. `check` may refuse that by throwing; it gets the room as the caller sees it before the change.
  package func update(
    _ id: RoomID, _ change: RoomChange, by caller: Caller,
    check: @escaping @Sendable (View) throws -> Void
  ) async throws -> View {
    try await database.write { transaction in
      let (room, standing) = try self.require(
        .manage, caller, try await self.directory.readForUpdate(id, in: transaction))
      try check(try await Self.view(room, for: caller, in: transaction))
      var properties = room.properties
      properties.name = change.name ?? room.name
      properties.levelAdmin = change.levelAdmin ?? room.levelAdmin
      properties.isByInvitation = change.isByInvitation ?? room.isByInvitation
      if let new = change.defaultPermissions, new != properties.defaultPermissions {
        guard
          [new, properties.defaultPermissions].allSatisfy({
            RuleEngine.mayHandle($0, by: caller, standing, in: room)
          })
        else { throw AppError(.forbidden) }
        properties.defaultPermissions = new
      }
      if let days = change.retentionDays { properties.retentionDays = days }
      try await RoomStore.update(id, properties, in: transaction)
      _ = try await RoomStore.raiseAccessVersion(id, in: transaction)
      let changed = try await self.announce(id, in: transaction)
      return try await Self.view(changed, for: caller, in: transaction)
    }
  }

  package func delete(_ id: RoomID, by caller: Caller) async throws {
    try await database.write(.essential) { transaction in
      _ = try self.require(
        .manage, caller, try await self.directory.readForUpdate(id, in: transaction))
      try await self.destroy(id, in: transaction)
    }
  }

  /// Deletes a room that the transaction has locked, with what is said there if it is secret.
  func destroy(_ id: RoomID, in transaction: Transaction) async throws {
    try await markDeleted(id, in: transaction)
    // What is left of a large room is destroyed by `MessageExpiry`.
    _ = try await SecretKeyStore.destroyAll(
      of: id, limit: MessageExpiry.keysPerTransaction, in: transaction)
  }

  /// Deletes a room that the transaction has locked. After the commit, publishes that.
  func markDeleted(_ id: RoomID, in transaction: Transaction) async throws {
    try await RoomStore.markDeleted(id, at: .now, in: transaction)
    let version = try await RoomStore.raiseAccessVersion(id, in: transaction)
    transaction.afterCommit { [self] in
      directory.remove(id, version: version)
      events.publish([.access(.roomDeleted(id, version: version))])
    }
  }

  /// Reads the room again. After the commit, keeps it in the directory and publishes its access version.
  func announce(_ id: RoomID, in transaction: Transaction) async throws -> Room {
    guard let room = try await announce([id], in: transaction)[id] else {
      throw AppError(.roomNotFound)
    }
    return room
  }

  /// The same for several rooms. Those that do not exist are left out.
  @discardableResult
  func announce(
    _ ids: [RoomID], in transaction: Transaction
  ) async throws -> [RoomID: Room] {
    let rooms = try await directory.readAgain(ids, in: transaction)
    transaction.afterCommit { [self] in
      for room in rooms.values { directory.put(room) }
      events.publish(
        rooms.values.map { .access(.roomChanged($0.id, version: $0.accessVersion)) })
    }
    return rooms
  }
}

extension Rooms: SharedDialogs {
  package func changed(
    between one: UserID, and other: UserID, in transaction: Transaction
  ) async throws {
    let ids = try await RoomStore.dialogs(of: one, and: other, in: transaction)
    try await RoomStore.lock(ids, in: transaction)
    for id in ids.sorted() {
      _ = try await RoomStore.raiseAccessVersion(id, in: transaction)
    }
    try await announce(ids, in: transaction)
  }
}
