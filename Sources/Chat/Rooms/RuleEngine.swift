package import Access
package import Basics
package import Events

/// The position of a caller in a room.
package enum Standing: Sendable, Equatable {
  /// No accepted rule matches. For this caller the room does not exist.
  case stranger
  /// A matching rule has the letter `b`: no letters, level 0, and the room does not exist for this caller.
  case banned
  case member(Permissions, level: Int64)

  /// The caller's letters; none for strangers and the banned.
  package var permissions: Permissions {
    if case .member(let permissions, _) = self { permissions } else { Permissions(rawValue: 0) }
  }

  package var level: Int64 {
    if case .member(_, let level) = self { level } else { 0 }
  }

  package var isMember: Bool { if case .member = self { true } else { false } }
}

/// The rules of access to a room, as pure functions (docs/rooms-and-rules.md). `RuleEngineTests` has them as a table.
package enum RuleEngine {
  /// The letters that the creator always has.
  package static let creatorPermissions: Permissions = [.read, .write, .admin]

  /// The union of the letters of all matching accepted rules, and the highest of their levels.
  package static func standing(of caller: Caller, in room: Room) -> Standing {
    standing(of: caller.userID, level: caller.level, isOf: caller.isOf, in: room)
  }

  /// The same for an account with these memberships.
  package static func standing(
    of user: UserID, _ affiliations: Affiliations, in room: Room
  ) -> Standing {
    standing(
      of: user, level: Caller.levelOfLocalUsers, isOf: affiliations.entities.contains, in: room)
  }

  /// `level` is the person's `levelOnEntity`. `isOf` tells whether the person belongs to an entity.
  private static func standing(
    of user: UserID, level ownLevel: Int64, isOf: (UUID) -> Bool, in room: Room
  ) -> Standing {
    var sum = Sum(isCreator: user == room.ownerUser)
    for rule in room.rules where rule.isAccepted {
      let isOwn = rule.subject == user.uuid
      // In a room for two only rules for people count.
      guard isOwn || (room.type == .group && isOf(rule.subject)) else { continue }
      sum.add(rule.permissions, level: rule.level, isOwn: isOwn)
    }
    if let entity = room.ownerEntity, isOf(entity) { sum.level = max(sum.level, ownLevel) }
    return sum.standing
  }

  /// The total of the rules that include a person.
  private struct Sum {
    let isCreator: Bool
    private var permissions: Permissions
    var level: Int64 = 0
    private var hasMatch: Bool
    private var isBannedByName = false
    private var isBannedByEntity = false
    private var holdsAdminByName = false

    init(isCreator: Bool) {
      self.isCreator = isCreator
      // Not `[]`, which the standard library builds with a loop that is not specialized; this runs for every message.
      permissions = isCreator ? creatorPermissions : Permissions(rawValue: 0)
      hasMatch = isCreator
    }

    mutating func add(_ letters: Permissions, level: Int64, isOwn: Bool) {
      hasMatch = true
      permissions.formUnion(letters)
      self.level = max(self.level, level)
      if letters.contains(.banned) {
        if isOwn { isBannedByName = true } else { isBannedByEntity = true }
      }
      if isOwn, letters.contains(.admin) { holdsAdminByName = true }
    }

    var standing: Standing {
      guard hasMatch else { return .stranger }
      // A ban of an admin's entity does not exclude the admin.
      if !isCreator, isBannedByName || (isBannedByEntity && !holdsAdminByName) { return .banned }
      return .member(permissions.subtracting(.banned), level: level)
    }
  }

  /// Those of the rooms that the caller may read, each once. `lines` are all rules that include the caller.
  static func readable(_ lines: [InboxLine], by caller: Caller) -> [InboxLine] {
    var sums: [RoomID: (sum: Sum, line: InboxLine)] = [:]
    for line in lines where line.isOwn || line.type == .group {
      sums[line.room, default: (Sum(isCreator: caller.userID == line.ownerUser), line)].sum
        .add(line.permissions, level: 0, isOwn: line.isOwn)
    }
    return sums.values.filter { $0.sum.standing.permissions.contains(.read) }.map(\.line)
  }

  /// What the caller's permission to write is based on; nil if the caller may not write. Memberships are included
  /// only if the permission does not exist without them.
  package static func grantToWrite(_ caller: Caller, in room: Room) -> Draft.Grant? {
    guard standing(of: caller, in: room).permissions.contains(.write) else { return nil }
    let alone = standing(of: caller.userID, level: caller.level, isOf: { _ in false }, in: room)
    return Draft.Grant(
      accessVersion: room.accessVersion,
      affiliationsVersion: alone.permissions.contains(.write) ? nil : caller.affiliations?.version,
      session: caller.sessionID)
  }

  /// The level from which a user may answer an invitation for an entity.
  package static let levelToAnswerForEntity: Int64 = 100

  /// Whether the caller may answer for this entity. For an organization or a team of this server its admins may; for
  /// an entity of another system, everyone with the level.
  package static func mayAnswer(for entity: UUID, _ caller: Caller) -> Bool {
    guard caller.isOf(entity) else { return false }
    return caller.affiliations.map { $0.manages(entity) == true }
      ?? (caller.level >= levelToAnswerForEntity)
  }

  /// The rules that wait for an answer that the caller may give.
  package static func invitations(of caller: Caller, to room: Room) -> [RoomRule] {
    room.rules.filter { rule in
      !rule.isAccepted
        && (rule.subject == caller.userID.uuid
          || (room.type == .group && mayAnswer(for: rule.subject, caller)))
    }
  }

  /// Whether a rule of the caller, or of an entity of the caller, waits for an answer.
  package static func isInvited(_ caller: Caller, to room: Room) -> Bool {
    room.rules.contains {
      !$0.isAccepted
        && ($0.subject == caller.userID.uuid
          || (room.type == .group && caller.isOf($0.subject)))
    }
  }

  package static func canManage(_ standing: Standing, _ room: Room) -> Bool {
    guard case .member(let permissions, let level) = standing else { return false }
    return permissions.contains(.admin) || level >= room.levelAdmin
  }

  /// Whether a standing suffices for an operation in the room.
  package static func allows(_ right: RoomRight, _ standing: Standing, _ room: Room) -> Bool {
    switch right {
    case .read: standing.permissions.contains(.read)
    case .write: standing.permissions.contains(.write)
    case .manage: canManage(standing, room)
    case .member: standing.isMember
    // Decided elsewhere: by a waiting rule, by the level in the entity, or by the owner of the rule.
    case .invited, .create, .manageOrOwnRule: true
    }
  }

  /// The replacement of a rule; nil deletes it.
  package struct RuleChange: Sendable, Equatable {
    package let subject: UUID
    package let new: (permissions: Permissions, level: Int64)?

    package init(subject: UUID, new: (permissions: Permissions, level: Int64)?) {
      self.subject = subject
      self.new = new
    }

    package static func == (left: Self, right: Self) -> Bool {
      left.subject == right.subject && left.new?.permissions == right.new?.permissions
        && left.new?.level == right.new?.level
    }
  }

  /// Whether a caller who manages the room may make this change. Nobody may grant or touch letters or a level beyond
  /// their own, but everyone who manages may ban. Nobody may take anything from the creator. `subject` is the
  /// standing of the person whom the rule names, if it is an account: letters from an organization protect from a ban
  /// like those of a rule of one's own.
  package static func mayChange(
    _ change: RuleChange, of subject: Standing = .stranger, by caller: Caller,
    _ standing: Standing, in room: Room
  ) -> Bool {
    guard canManage(standing, room) else { return false }
    if change.subject == room.ownerUser.uuid {
      guard let new = change.new, new.permissions.isSuperset(of: creatorPermissions),
        !new.permissions.contains(.banned)
      else { return false }
    }
    if caller.userID == room.ownerUser || caller.isPlatformAdmin { return true }
    guard case .member(let own, let ownLevel) = standing else { return false }
    func isWithinOwn(_ permissions: Permissions, _ level: Int64) -> Bool {
      permissions.subtracting(.banned).isSubset(of: own) && level <= ownLevel
    }
    if let old = room.rule(for: change.subject), !isWithinOwn(old.permissions, old.level) {
      return false
    }
    guard let new = change.new else { return true }
    if new.permissions.contains(.banned), !isWithinOwn(subject.permissions, subject.level) {
      return false
    }
    return isWithinOwn(new.permissions, new.level)
  }
}
