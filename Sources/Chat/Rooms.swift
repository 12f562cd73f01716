package import Access
package import Basics
package import Database
package import Events

/// What may be done with rooms and their rules, in which order, and with which effects.
///
/// Every operation checks the caller's right on the state that it reads in its own transaction. A
/// stranger learns nothing: not there and not yours are the same 404.
package final class Rooms: Sendable {
  private let database: any SQLDatabase
  private let events: EventStream
  package let directory: RoomDirectory
  private let maximumRules: Int
  private let levelToCreate: Int64

  package init(
    database: any SQLDatabase, events: EventStream, directory: RoomDirectory, maximumRules: Int,
    levelToCreate: Int64
  ) {
    self.database = database
    self.events = events
    self.directory = directory
    self.maximumRules = maximumRules
    self.levelToCreate = levelToCreate
  }

  /// Level of a user from which one may answer an invitation for one's entity (CONTRACT section 4).
  private static let levelToAnswerForEntity: Int64 = 100

  /// A room with what its caller is in it and where its log ends.
  package struct View: Sendable {
    package let room: Room
    package let standing: Standing
    package let lastSeq: Int64
  }

  // MARK: Access

  /// Throws `room_not_found` or `forbidden` unless the caller has this right in the room.
  private func require(
    _ right: Policy.RoomRight, _ caller: Caller, _ room: Room?
  ) throws(AppError) -> (Room, Standing) {
    guard let room else { throw AppError(.roomNotFound) }
    let standing = RuleEngine.standing(of: caller, in: room)
    guard standing.isMember else { throw AppError(.roomNotFound) }
    guard RuleEngine.allows(right, standing, room) else { throw AppError(.forbidden) }
    return (room, standing)
  }

  /// Throws what an act that needs this right would throw.
  package func requireRight(
    _ right: Policy.RoomRight, in id: RoomID, of caller: Caller
  ) async throws {
    let room = try await database.read { try await RoomStore.room(id, in: $0) }
    if right == .invited, let room, RuleEngine.isInvited(caller, to: room) { return }
    _ = try self.require(right, caller, room)
  }

  /// The room, where the caller has this right in it, and where its log ends, in one snapshot.
  package func view(_ id: RoomID, as caller: Caller, _ right: Policy.RoomRight) async throws -> View
  {
    let (room, lastSeq) = try await database.read { transaction in
      (
        try await RoomStore.room(id, in: transaction),
        try await RoomStore.lastSeq(id, in: transaction)
      )
    }
    let (found, standing) = try self.require(right, caller, room)
    return View(room: found, standing: standing, lastSeq: lastSeq ?? 0)
  }

  /// Rooms in which the caller has a letter, by ascending id, from beyond `after`. Gives one more than
  /// `limit` where there are more.
  package func list(for caller: Caller, after: RoomID, limit: Int) async throws -> [View] {
    try await database.read { transaction in
      var views: [View] = []
      var after = after
      while views.count <= limit {
        var ids: Set<RoomID> = []
        // Where one subject's page is full, ids beyond its end may belong to another's next page.
        var end: RoomID?
        for subject in Set(caller.subjects) {
          let page = try await RoomStore.roomIDs(
            subject: subject, after: after, limit: limit + 1, in: transaction)
          ids.formUnion(page)
          if page.count > limit, let last = page.last { end = min(end ?? last, last) }
        }
        for id in ids.sorted() where end.map({ id <= $0 }) ?? true {
          guard views.count <= limit else { break }
          after = id
          guard let room = try await RoomStore.room(id, in: transaction) else { continue }
          let standing = RuleEngine.standing(of: caller, in: room)
          guard !standing.permissions.isEmpty else { continue }
          let lastSeq = try await RoomStore.lastSeq(id, in: transaction) ?? 0
          views.append(View(room: room, standing: standing, lastSeq: lastSeq))
        }
        guard let end else { break }
        after = max(after, end)
      }
      return views
    }
  }

  /// Every room that the caller may read, by ascending id.
  package func readableRooms(for caller: Caller) async throws -> [RoomID] {
    var ids: [RoomID] = []
    var after = RoomID(0)
    while true {
      let page = try await list(for: caller, after: after, limit: Self.pageSize)
      for view in page.prefix(Self.pageSize) where view.standing.permissions.contains(.read) {
        ids.append(view.room.id)
      }
      guard page.count > Self.pageSize else { return ids }
      after = page[Self.pageSize - 1].room.id
    }
  }

  private static let pageSize = 500

  // MARK: Rooms

  /// What a room is made of.
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

  /// Makes a room with the creator's rule and, unless it is for two, the creator's entity's.
  package func create(_ new: NewRoom, by caller: Caller) async throws -> View {
    try requireMayCreate(caller)
    let entity = caller.entities.first
    let room = try await database.write { transaction in
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
    return View(
      room: room, standing: RuleEngine.standing(of: caller, in: room), lastSeq: 0)
  }

  /// Changes to a room; nil leaves a member as it is.
  package struct RoomChange: Sendable {
    package let name: String?
    package let levelAdmin: Int64?
    package let isByInvitation: Bool?
  }

  package func update(
    _ id: RoomID, _ change: RoomChange, by caller: Caller
  ) async throws -> View {
    let (room, lastSeq) = try await database.write { transaction in
      let (room, _) = try self.require(
        .manage, caller, try await RoomStore.roomForUpdate(id, in: transaction))
      try await RoomStore.update(
        id, name: change.name ?? room.name, levelAdmin: change.levelAdmin ?? room.levelAdmin,
        isByInvitation: change.isByInvitation ?? room.isByInvitation, in: transaction)
      _ = try await RoomStore.raiseAccessVersion(id, at: .now, in: transaction)
      return (
        try await self.announce(id, in: transaction),
        try await RoomStore.lastSeq(id, in: transaction) ?? 0
      )
    }
    return View(
      room: room, standing: RuleEngine.standing(of: caller, in: room), lastSeq: lastSeq)
  }

  package func delete(_ id: RoomID, by caller: Caller) async throws {
    try await database.write(.essential) { transaction in
      _ = try self.require(.manage, caller, try await RoomStore.roomForUpdate(id, in: transaction))
      try await RoomStore.markDeleted(id, at: .now, in: transaction)
      let version = try await RoomStore.raiseAccessVersion(id, at: .now, in: transaction)
      transaction.afterCommit { [self] in
        directory.remove(id, version: version)
        events.publish([.access(.roomDeleted(id, version: version))])
      }
    }
  }

  /// Reads the room back and, once committed, tells everyone of its new access.
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

  /// Adds, changes (`new`) or deletes (nil) a subject's rule; returns it as it now is, with no letters
  /// where it was deleted. `level` nil keeps an existing rule's, and is 0 for a new one.
  package func setRule(
    _ subject: UUID, permissions: Permissions?, level: Int64?, in id: RoomID, by caller: Caller
  ) async throws -> RoomRule {
    // A ban and a removal go through even when the disk is nearly full.
    let urgency: WriteUrgency =
      permissions == nil || permissions?.contains(.banned) == true ? .essential : .ordinary
    return try await database.write(urgency) { transaction in
      let (room, standing) = try self.require(
        .manage, caller, try await RoomStore.roomForUpdate(id, in: transaction))
      let old = room.rule(for: subject)
      let newLevel = level ?? old?.level ?? 0
      let change = RuleEngine.RuleChange(
        subject: subject, new: permissions.map { ($0, newLevel) })
      guard RuleEngine.mayChange(change, by: caller, standing, in: room) else {
        throw AppError(.forbidden)
      }
      guard let permissions else {
        try await RoomStore.removeRule(subject, from: id, transaction)
        if old != nil { try await self.bump(id, in: transaction) }
        return RoomRule(
          subject: subject, permissions: [], level: old?.level ?? 0,
          isAccepted: old?.isAccepted ?? false)
      }
      if old == nil { try self.checkRoomForRule(room) }
      // A rule keeps its answer. Nobody is asked whether they want to be banned, and no ban that is
      // lifted answers for anyone.
      let isAccepted =
        if permissions.contains(.banned) {
          true
        } else if let old, !old.permissions.contains(.banned) {
          old.isAccepted
        } else {
          !room.isByInvitation
        }
      let rule = RoomRule(
        subject: subject, permissions: permissions, level: newLevel, isAccepted: isAccepted)
      try await RoomStore.put(rule, in: id, transaction)
      try await self.bump(id, in: transaction)
      return rule
    }
  }

  private func bump(_ id: RoomID, in transaction: Transaction) async throws {
    _ = try await RoomStore.raiseAccessVersion(id, at: .now, in: transaction)
    _ = try await self.announce(id, in: transaction)
  }

  private func checkRoomForRule(_ room: Room) throws(AppError) {
    if room.type == .userToUser, room.rules.count >= 2 { throw AppError(.roomFull) }
    guard room.rules.count < maximumRules else { throw AppError(.tooManyRules) }
  }

  /// As `setRule` with nil, but a rule that is not there is `rule_not_found`.
  package func removeRule(_ subject: UUID, from id: RoomID, by caller: Caller) async throws {
    try await database.write(.essential) { transaction in
      let (room, standing) = try self.require(
        .manage, caller, try await RoomStore.roomForUpdate(id, in: transaction))
      guard room.rule(for: subject) != nil else { throw AppError(.ruleNotFound) }
      let change = RuleEngine.RuleChange(subject: subject, new: nil)
      guard RuleEngine.mayChange(change, by: caller, standing, in: room) else {
        throw AppError(.forbidden)
      }
      try await RoomStore.removeRule(subject, from: id, transaction)
      try await self.bump(id, in: transaction)
    }
  }

  /// Answers an invitation of one's own, or of one's entity: accepted it counts, declined it is gone.
  package func answerInvitation(
    to id: RoomID, isAccepted: Bool, forEntity: Bool, by caller: Caller
  ) async throws -> RoomRule {
    try await database.write { transaction in
      guard let room = try await RoomStore.roomForUpdate(id, in: transaction) else {
        throw AppError(.roomNotFound)
      }
      let subjects = forEntity ? caller.entities : [caller.userID.uuid]
      guard let rule = room.rules.first(where: { !$0.isAccepted && subjects.contains($0.subject) })
      else {
        let isMember = RuleEngine.standing(of: caller, in: room).isMember
        throw AppError(isMember ? .invitationNotFound : .roomNotFound)
      }
      if forEntity, caller.level < Self.levelToAnswerForEntity {
        throw AppError(
          .forbidden, "Answering for an entity needs a level of \(Self.levelToAnswerForEntity).")
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
