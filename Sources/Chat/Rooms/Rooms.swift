package import Access
internal import Accounts
package import Basics
package import Database
package import Events

/// The operations on rooms and their rules.
///
/// Every operation checks the caller's right on the state that it reads in its own transaction. Strangers learn
/// nothing: a room that does not exist and a room of others give the same 404.
package final class Rooms: Sendable {
  private let database: any SQLDatabase
  private let events: EventStream
  package let directory: RoomDirectory
  private let maximumRules: Int
  private let maximumRooms: Int
  private let levelToCreate: Int64

  /// `maximumRules` limits the rules of a room, `maximumRooms` the rooms that one person may have made.
  /// `levelToCreate` is the `levelOnEntity` that making a room needs.
  package init(
    database: any SQLDatabase, events: EventStream, directory: RoomDirectory, maximumRules: Int,
    maximumRooms: Int, levelToCreate: Int64
  ) {
    self.database = database
    self.events = events
    self.directory = directory
    self.maximumRules = maximumRules
    self.maximumRooms = maximumRooms
    self.levelToCreate = levelToCreate
  }

  /// How many rules with only `b` a room may hold besides the others.
  private static let maximumBans = 1000

  /// A room with its caller's standing in it, and its head.
  package struct View: Sendable {
    package let room: Room
    package let standing: Standing
    package let lastSeq: Int64
    /// The time of the last entry; the beginning of time for an empty log.
    let lastMessageAt: Timestamp
  }

  // MARK: Access

  /// Throws `room_not_found` or `forbidden` unless the caller has this right in the room.
  private func require(
    _ right: RoomRight, _ caller: Caller, _ room: Room?
  ) throws(AppError) -> (Room, Standing) {
    guard let room else { throw AppError(.roomNotFound) }
    let standing = RuleEngine.standing(of: caller, in: room)
    guard standing.isMember else { throw AppError(.roomNotFound) }
    guard RuleEngine.allows(right, standing, room) else { throw AppError(.forbidden) }
    return (room, standing)
  }

  /// Throws what an operation that needs this right would throw.
  package func requireRight(
    _ right: RoomRight, in id: RoomID, of caller: Caller
  ) async throws {
    let room = try await database.read { try await RoomStore.room(id, in: $0) }
    if right == .invited, let room, RuleEngine.isInvited(caller, to: room) { return }
    _ = try self.require(right, caller, room)
  }

  /// The room with its head in one snapshot, if the caller has this right in it.
  package func view(_ id: RoomID, as caller: Caller, _ right: RoomRight) async throws -> View {
    let (room, head) = try await database.read { transaction in
      (
        try await RoomStore.room(id, in: transaction),
        try await RoomStore.head(id, in: transaction)
      )
    }
    let (found, standing) = try self.require(right, caller, room)
    return Self.view(found, standing, head)
  }

  private static func view(
    _ room: Room, _ standing: Standing, _ head: RoomStore.Head?
  ) -> View {
    View(
      room: room, standing: standing, lastSeq: head?.lastSeq ?? 0,
      lastMessageAt: head?.lastTime ?? Timestamp(milliseconds: 0))
  }

  /// Rooms in which the caller has a letter, by ascending id above `after`. Returns `limit` + 1 rooms if there are
  /// more than `limit`.
  package func list(for caller: Caller, after: RoomID, limit: Int) async throws -> [View] {
    try await database.read { transaction in
      var views: [View] = []
      var after = after
      while views.count <= limit {
        let (ids, end) = try await Self.step(through: caller.subjects, limit: limit) {
          try await RoomStore.roomIDs(
            subject: $0, after: after, limit: limit + 1, in: transaction)
        }
        for id in ids {
          guard views.count <= limit else { break }
          guard let room = try await RoomStore.room(id, in: transaction) else { continue }
          let standing = RuleEngine.standing(of: caller, in: room)
          guard !standing.permissions.isEmpty else { continue }
          views.append(
            Self.view(room, standing, try await RoomStore.head(id, in: transaction)))
        }
        guard let end else { break }
        after = end
      }
      return views
    }
  }

  /// One step through the rooms of several subjects, by ascending id. `page` returns the ids of one subject, `limit`
  /// + 1 of them if there are more than `limit`. The next step begins after `end`; nil if this was the last.
  private static func step(
    through subjects: [UUID], limit: Int, page: (UUID) async throws -> [RoomID]
  ) async throws -> (ids: [RoomID], end: RoomID?) {
    var ids: Set<RoomID> = []
    var end: RoomID?
    for subject in Set(subjects) {
      let found = try await page(subject)
      ids.formUnion(found)
      if found.count > limit, let last = found.last { end = min(end ?? last, last) }
    }
    // Behind the end of one subject's full page there may be more of its rooms.
    return (ids.sorted().filter { id in end.map { id <= $0 } ?? true }, end)
  }

  /// The rooms that the caller may read, by ascending id. If there are more than `maximumListed`, those with the
  /// latest activity. Also returns whether there are more.
  package func latestReadableRooms(
    for caller: Caller
  ) async throws -> (ids: [RoomID], hasMore: Bool) {
    let lines = try await database.read { transaction in
      try await RoomStore.inbox(
        of: caller, limit: Self.maximumInboxLines, in: transaction)
    }
    var found: [(id: RoomID, activeAt: Timestamp)]
    if let lines {
      found = RuleEngine.readable(lines, by: caller).map { ($0.room, $0.activeAt) }
    } else {
      found = try await readableRoomsByPages(for: caller)
    }
    if found.count > Self.maximumListed {
      found.sort { ($0.activeAt, $0.id) > ($1.activeAt, $1.id) }
      return (found.prefix(Self.maximumListed).map(\.id).sorted(), true)
    }
    return (found.map(\.id).sorted(), false)
  }

  /// For a caller with so many rules that they are not read at once.
  func readableRoomsByPages(
    for caller: Caller
  ) async throws -> [(id: RoomID, activeAt: Timestamp)] {
    var found: [(id: RoomID, activeAt: Timestamp)] = []
    var after = RoomID(0)
    while true {
      let page = try await list(for: caller, after: after, limit: Self.pageSize)
      for view in page.prefix(Self.pageSize) where view.standing.permissions.contains(.read) {
        found.append((view.room.id, max(view.lastMessageAt, view.room.createdAt)))
      }
      guard page.count > Self.pageSize else { return found }
      after = page[Self.pageSize - 1].room.id
    }
  }

  /// The most rules of one subject that are read at once.
  private static let maximumInboxLines = 10_000
  /// The most rooms that a socket is subscribed to without asking.
  private static let maximumListed = 5000
  private static let pageSize = 500

  // MARK: Rooms

  /// The properties of a new room.
  package struct NewRoom: Sendable {
    package let name: String
    package let type: RoomType
    package let levelAdmin: Int64
    package let isByInvitation: Bool
  }

  /// Throws `forbidden` unless the caller may make rooms.
  package func requireMayCreate(_ caller: Caller) throws(AppError) {
    guard caller.level >= levelToCreate else {
      throw AppError(.forbidden, "Creating a room needs a level of \(levelToCreate).")
    }
  }

  /// Makes a room. If the creator has a token of another system, the room begins with the creator's rule and, unless
  /// it is for two, with the entity's rule. A room of an account belongs to no entity.
  package func create(_ new: NewRoom, by caller: Caller) async throws -> View {
    try requireMayCreate(caller)
    let entity = caller.sessionID == nil ? caller.entities.first : nil
    let room = try await database.write { transaction in
      // One transaction at a time for each person, so that the count of rooms is right.
      try await transaction.exclusively(on: Int64(bitPattern: caller.userID.uuid.low))
      let count = try await RoomStore.roomCount(
        madeBy: caller.userID, limit: Int64(self.maximumRooms), in: transaction)
      guard count < Int64(self.maximumRooms) else { throw AppError(.tooManyRooms) }
      let id = try await RoomStore.insert(
        name: new.name, type: new.type, levelAdmin: new.levelAdmin, ownerUser: caller.userID,
        ownerEntity: entity, isByInvitation: new.isByInvitation, at: .now, in: transaction)
      try await RoomStore.put(
        RoomRule(
          subject: caller.userID.uuid, permissions: RuleEngine.creatorPermissions,
          level: caller.level, isAccepted: true), in: id, transaction)
      if new.type == .group, let entity, entity != caller.userID.uuid {
        try await RoomStore.put(
          RoomRule(subject: entity, permissions: [.read, .write], level: 0, isAccepted: true),
          in: id, transaction)
      }
      return try await self.announce(id, in: transaction)
    }
    return Self.view(room, RuleEngine.standing(of: caller, in: room), nil)
  }

  /// A change of a room. Nil leaves a property as it is.
  package struct RoomChange: Sendable {
    package let name: String?
    package let levelAdmin: Int64?
    package let isByInvitation: Bool?
  }

  /// `check` may refuse the change, based on the caller's standing before it.
  package func update(
    _ id: RoomID, _ change: RoomChange, by caller: Caller,
    check: @escaping @Sendable (View) throws -> Void
  ) async throws -> View {
    let (room, head) = try await database.write { transaction in
      let (room, standing) = try self.require(
        .manage, caller, try await RoomStore.roomForUpdate(id, in: transaction))
      let head = try await RoomStore.head(id, in: transaction)
      try check(Self.view(room, standing, head))
      try await RoomStore.update(
        id, name: change.name ?? room.name, levelAdmin: change.levelAdmin ?? room.levelAdmin,
        isByInvitation: change.isByInvitation ?? room.isByInvitation, in: transaction)
      _ = try await RoomStore.raiseAccessVersion(id, in: transaction)
      return (try await self.announce(id, in: transaction), head)
    }
    return Self.view(room, RuleEngine.standing(of: caller, in: room), head)
  }

  package func delete(_ id: RoomID, by caller: Caller) async throws {
    try await database.write(.essential) { transaction in
      _ = try self.require(.manage, caller, try await RoomStore.roomForUpdate(id, in: transaction))
      try await RoomStore.markDeleted(id, at: .now, in: transaction)
      let version = try await RoomStore.raiseAccessVersion(id, in: transaction)
      transaction.afterCommit { [self] in
        directory.remove(id, version: version)
        events.publish([.access(.roomDeleted(id, version: version))])
      }
    }
  }

  /// Reads the room again and, once committed, announces its new access.
  private func announce(_ id: RoomID, in transaction: Transaction) async throws -> Room {
    guard let room = try await RoomStore.room(id, in: transaction) else {
      throw AppError(.roomNotFound)
    }
    transaction.afterCommit { [self] in
      directory.put(room)
      events.publish([.access(.roomChanged(id, version: room.accessVersion))])
    }
    return room
  }

  // MARK: Rules

  /// Adds, changes (`new`) or deletes (nil) a subject's rule. Returns the rule as it is afterwards, without letters
  /// if it was deleted. If `level` is nil, an existing rule keeps its level and a new one gets 0. Only the subject
  /// decides whether the rule is accepted: if the caller expects a state that the rule neither had nor gets, the
  /// change is refused.
  package func setRule(
    _ subject: UUID, permissions: Permissions?, level: Int64?, expectingAccepted: Bool? = nil,
    in id: RoomID, by caller: Caller
  ) async throws -> RoomRule {
    // Bans and removals succeed even when the disk is nearly full.
    let writeClass: WriteClass =
      permissions == nil || permissions?.contains(.banned) == true ? .essential : .ordinary
    return try await database.write(writeClass) { transaction in
      let (room, standing) = try self.require(
        .manage, caller, try await RoomStore.roomForUpdate(id, in: transaction))
      let old = room.rule(for: subject)
      let newLevel = level ?? old?.level ?? 0
      let change = RuleEngine.RuleChange(
        subject: subject, new: permissions.map { ($0, newLevel) })
      let person = UserID(subject)
      let affiliations = try await RuleSubjects.affiliations(of: person, in: transaction)
      guard
        RuleEngine.mayChange(
          change, of: RuleEngine.standing(of: person, affiliations, in: room), by: caller, standing,
          in: room)
      else { throw AppError(.forbidden) }
      guard let permissions else {
        try await RoomStore.removeRule(subject, from: id, transaction)
        if old != nil { try await self.bump(id, in: transaction) }
        return RoomRule(
          subject: subject, permissions: [], level: old?.level ?? 0,
          isAccepted: old?.isAccepted ?? false)
      }
      try await self.requireRoomForRule(for: subject, permissions, old, room, transaction)
      // A rule keeps its answer. A ban needs no consent, and lifting one answers for nobody.
      let isAccepted =
        if permissions.contains(.banned) {
          true
        } else if let old, !old.permissions.contains(.banned) {
          old.isAccepted
        } else {
          !room.isByInvitation
        }
      if let expectingAccepted, !permissions.contains(.banned), expectingAccepted != isAccepted,
        expectingAccepted != old?.isAccepted
      {
        throw AppError(
          .validationFailed,
          details: [.init(field: "accepted", message: "is answered by whom the rule is for")])
      }
      let rule = RoomRule(
        subject: subject, permissions: permissions, level: newLevel, isAccepted: isAccepted)
      try await RoomStore.put(rule, in: id, transaction)
      let changed = try await self.bump(id, in: transaction)
      if !isAccepted, old?.isAccepted != false {
        transaction.afterCommit { [events = self.events] in
          events.publish([
            .access(.invited(id, subject: subject, version: changed.accessVersion))
          ])
        }
      }
      return rule
    }
  }

  @discardableResult
  private func bump(_ id: RoomID, in transaction: Transaction) async throws -> Room {
    _ = try await RoomStore.raiseAccessVersion(id, in: transaction)
    return try await self.announce(id, in: transaction)
  }

  /// Throws if the room has no place for this rule. A ban does not take the place of a rule that admits somebody.
  /// Changing a rule needs no further place, except in a room for two, where a ban that becomes a right needs one of
  /// the two places.
  private func requireRoomForRule(
    for subject: UUID, _ permissions: Permissions, _ old: RoomRule?, _ room: Room,
    _ transaction: Transaction
  ) async throws {
    guard old == nil || room.type == .userToUser else { return }
    var groups = try await RuleSubjects.groups(
      among: room.rules.map(\.subject) + [subject], in: transaction)
    if let entity = room.ownerEntity, entity != room.ownerUser.uuid { groups.insert(entity) }
    func bansPerson(_ subject: UUID, _ permissions: Permissions) -> Bool {
      permissions == .banned && !groups.contains(subject)
    }
    func admitsPerson(_ subject: UUID, _ permissions: Permissions) -> Bool {
      permissions != .banned && !groups.contains(subject)
    }
    if room.type == .userToUser, admitsPerson(subject, permissions) {
      let others = room.rules.count {
        $0.subject != subject && admitsPerson($0.subject, $0.permissions)
      }
      guard others < 2 else { throw AppError(.roomFull) }
    }
    guard old == nil else { return }
    let bans = room.rules.count { bansPerson($0.subject, $0.permissions) }
    if bansPerson(subject, permissions) {
      guard bans < Self.maximumBans else { throw AppError(.tooManyRules) }
    } else {
      guard room.rules.count - bans < maximumRules else { throw AppError(.tooManyRules) }
    }
  }

  /// The same as `setRule` with nil, but throws `rule_not_found` if there is no such rule. Members may remove their
  /// own rule without managing the room, which is how people leave. That is refused to the creator (`forbidden`), and
  /// to members who are in the room only through an entity (`not_a_member`), even if a rule of their own waits for
  /// their answer: that rule is declined instead.
  package func removeRule(_ subject: UUID, from id: RoomID, by caller: Caller) async throws {
    try await database.write(.essential) { transaction in
      let isSelf = subject == caller.userID.uuid
      let (room, standing) = try self.require(
        isSelf ? .member : .manage, caller,
        try await RoomStore.roomForUpdate(id, in: transaction))
      guard let rule = room.rule(for: subject) else {
        throw AppError(isSelf ? .notAMember : .ruleNotFound)
      }
      if isSelf, !rule.isAccepted { throw AppError(.notAMember) }
      let isLeaving = isSelf && subject != room.ownerUser.uuid
      let change = RuleEngine.RuleChange(subject: subject, new: nil)
      guard isLeaving || RuleEngine.mayChange(change, by: caller, standing, in: room) else {
        throw AppError(.forbidden)
      }
      try await RoomStore.removeRule(subject, from: id, transaction)
      try await self.bump(id, in: transaction)
    }
  }

  // MARK: Invitations

  /// A rule that waits for an answer.
  package struct Invitation: Sendable {
    package let room: Room
    package let rule: RoomRule
    /// Whether the answer is for the person, or for everyone in an entity.
    package let isForUser: Bool
  }

  /// The invitations that the caller may answer, by ascending room and subject, after `place` in that order. Returns
  /// `limit` + 1 if there are more than `limit`.
  package func invitations(
    of caller: Caller, after place: (room: RoomID, subject: UUID)?, limit: Int
  ) async throws -> [Invitation] {
    let subjects =
      [caller.userID.uuid] + caller.entities.filter { RuleEngine.mayAnswer(for: $0, caller) }
    return try await database.read { transaction in
      var found: [Invitation] = []
      // The room of `place` may have more.
      var after = RoomID((place?.room.value ?? 1) - 1)
      while found.count <= limit {
        let (ids, end) = try await Self.step(through: subjects, limit: limit) {
          try await RoomStore.waitingRoomIDs(
            subject: $0, after: after, limit: limit + 1, in: transaction)
        }
        for id in ids where found.count <= limit {
          guard let room = try await RoomStore.room(id, in: transaction) else { continue }
          let waiting = RuleEngine.invitations(of: caller, to: room)
            .sorted { $0.subject.description < $1.subject.description }
          for rule in waiting where found.count <= limit {
            if let place, id == place.room,
              rule.subject.description <= place.subject.description
            {
              continue
            }
            found.append(
              Invitation(room: room, rule: rule, isForUser: rule.subject == caller.userID.uuid))
          }
        }
        guard let end else { break }
        after = end
      }
      return found
    }
  }

  /// Answers an invitation for the caller or for an entity. An accepted rule counts from then on; a declined one is
  /// deleted.
  package func answerInvitation(
    to id: RoomID, isAccepted: Bool, forEntity: Bool, by caller: Caller
  ) async throws -> RoomRule {
    try await database.write { transaction in
      guard let room = try await RoomStore.roomForUpdate(id, in: transaction) else {
        throw AppError(.roomNotFound)
      }
      let waiting = room.rules.filter { rule in
        !rule.isAccepted
          && (forEntity
            ? room.type == .group && caller.isOf(rule.subject) : rule.subject == caller.userID.uuid)
      }
      guard let first = waiting.first else {
        let isMember = RuleEngine.standing(of: caller, in: room).isMember
        throw AppError(isMember ? .invitationNotFound : .roomNotFound)
      }
      let rule =
        forEntity
        ? waiting.first { RuleEngine.mayAnswer(for: $0.subject, caller) } : first
      guard let rule else {
        throw AppError(
          .forbidden, "Answering for an entity needs a level of 100, or to be its admin here.")
      }
      var answered = rule
      answered.isAccepted = isAccepted
      if isAccepted {
        try await RoomStore.put(answered, in: id, transaction)
      } else {
        try await RoomStore.removeRule(rule.subject, from: id, transaction)
      }
      try await self.bump(id, in: transaction)
      return answered
    }
  }
}
