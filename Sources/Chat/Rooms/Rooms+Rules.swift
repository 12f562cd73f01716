package import Access
internal import Accounts
package import Basics
internal import Database
internal import Events

/// The operations on a room's rules.
extension Rooms {
  /// The most rules that only ban a person (`b`) in a room, besides its other rules.
  private static let maximumBans = 1000

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
        .manage, caller, try await self.directory.readForUpdate(id, in: transaction))
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
        if room.people[person] == nil {
          try await RoomPeopleStore.forgetAct(of: person, in: id, transaction)
        }
        if old != nil {
          let changed = try await self.bump(id, in: transaction)
          try await self.endReading(of: person, in: changed, transaction)
        }
        return RoomRule(
          subject: subject, permissions: [], level: old?.level ?? 0,
          isAccepted: old?.isAccepted ?? false)
      }
      // Lifting a ban that the caller has made first is adding, too.
      if !permissions.contains(.banned), old?.permissions.contains(.banned) ?? true {
        try await People.requireNotBlocked(caller.userID, by: person, in: transaction)
      }
      try await self.requireRoomForRule(for: subject, permissions, old, room, transaction)
      // A rule keeps its answer. A ban needs no consent, and lifting a ban does not answer for its subject.
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
      if permissions.contains(.banned) {
        try await RoomPeopleStore.forgetAct(of: person, in: id, transaction)
      }
      let changed = try await self.bump(id, in: transaction)
      if old != nil || permissions.contains(.banned) {
        try await self.endReading(of: person, in: changed, transaction)
      }
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
  func bump(_ id: RoomID, in transaction: Transaction) async throws -> Room {
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
    if let entity = room.ownerEntity, entity != room.ownerUser?.uuid { groups.insert(entity) }
    func bansPerson(_ subject: UUID, _ permissions: Permissions) -> Bool {
      permissions == .banned && !groups.contains(subject)
    }
    func admitsPerson(_ subject: UUID, _ permissions: Permissions) -> Bool {
      permissions != .banned && !groups.contains(subject)
    }
    if room.type == .userToUser, admitsPerson(subject, permissions) {
      var others = Set(room.people.all.map(\.userID.uuid))
      for rule in room.rules where admitsPerson(rule.subject, rule.permissions) {
        others.insert(rule.subject)
      }
      others.remove(subject)
      guard others.count < 2 else { throw AppError(.roomFull) }
    }
    guard old == nil else { return }
    let bans = room.rules.count { bansPerson($0.subject, $0.permissions) }
    if bansPerson(subject, permissions) {
      guard bans < Self.maximumBans else { throw AppError(.tooManyRules) }
    } else {
      guard room.rules.count - bans < maximumRules else { throw AppError(.tooManyRules) }
    }
  }

  /// The same as `setRule` with nil, but throws `rule_not_found` if there is no such rule. Members may remove their own
  /// rule without managing the room, which is how people leave. That is refused to the creator (`forbidden`), and to
  /// members without an accepted rule of their own (`not_a_member`). A rule of their own that waits for their answer
  /// can be declined with `answerInvitation`.
  package func removeRule(_ subject: UUID, from id: RoomID, by caller: Caller) async throws {
    try await database.write(.essential) { transaction in
      let isSelf = subject == caller.userID.uuid
      let (room, standing) = try self.require(
        isSelf ? .member : .manage, caller,
        try await self.directory.readForUpdate(id, in: transaction))
      if room.kind == .channel { throw AppError(.managedByTeam) }
      guard let rule = room.rule(for: subject) else {
        throw AppError(isSelf ? .notAMember : .ruleNotFound)
      }
      if isSelf, !rule.isAccepted { throw AppError(.notAMember) }
      let isLeaving = isSelf && subject != room.ownerUser?.uuid
      let change = RuleEngine.RuleChange(subject: subject, new: nil)
      guard isLeaving || RuleEngine.mayChange(change, by: caller, standing, in: room) else {
        throw AppError(.forbidden)
      }
      try await RoomStore.removeRule(subject, from: id, transaction)
      if room.people[UserID(subject)] == nil {
        try await RoomPeopleStore.forgetAct(of: UserID(subject), in: id, transaction)
      }
      let changed = try await self.bump(id, in: transaction)
      try await self.endReading(of: UserID(subject), in: changed, transaction)
    }
  }
}
