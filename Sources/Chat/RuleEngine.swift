package import Access
package import Basics

/// What a caller is in a room.
package enum Standing: Sendable, Equatable {
  /// No accepted rule matches: for this caller the room does not exist.
  case stranger
  /// A matching rule holds `b`: no letters, level 0, and the room does not exist either.
  case banned
  case member(Permissions, level: Int64)

  /// The letters held; none for strangers and the banned.
  package var permissions: Permissions {
    if case .member(let permissions, _) = self { permissions } else { [] }
  }

  package var level: Int64 {
    if case .member(_, let level) = self { level } else { 0 }
  }

  package var isMember: Bool { if case .member = self { true } else { false } }
}

/// The rules of CONTRACT section 4 as pure functions; `RuleEngineTests` holds them as a table.
package enum RuleEngine {
  /// What the creator always has.
  package static let creatorPermissions: Permissions = [.read, .write, .admin]

  /// The union of the letters of the accepted rules that match, and the highest of their levels.
  package static func standing(of caller: Caller, in room: Room) -> Standing {
    let isCreator = caller.userID == room.ownerUser
    var permissions: Permissions = isCreator ? creatorPermissions : []
    var level: Int64 = 0
    var hasMatch = isCreator
    for rule in room.rules where rule.isAccepted && matches(rule, caller, room.type) {
      hasMatch = true
      permissions.formUnion(rule.permissions)
      level = max(level, rule.level)
    }
    guard hasMatch else { return .stranger }
    if permissions.contains(.banned), !isCreator { return .banned }
    permissions.remove(.banned)
    if let entity = room.ownerEntity, caller.entities.contains(entity) {
      level = max(level, caller.level)
    }
    return .member(permissions, level: level)
  }

  /// Whether a rule means this caller. In a room of two only people count, never entities.
  private static func matches(_ rule: RoomRule, _ caller: Caller, _ type: RoomType) -> Bool {
    rule.subject == caller.userID.uuid
      || (type == .group && caller.entities.contains(rule.subject))
  }

  /// Whether a rule of the caller's own, or of its entity, waits for an answer.
  package static func isInvited(_ caller: Caller, to room: Room) -> Bool {
    room.rules.contains { !$0.isAccepted && matches($0, caller, room.type) }
  }

  package static func canManage(_ standing: Standing, _ room: Room) -> Bool {
    guard case .member(let permissions, let level) = standing else { return false }
    return permissions.contains(.admin) || level >= room.levelAdmin
  }

  /// Whether a standing suffices for what an operation needs in the room.
  package static func allows(_ right: Policy.RoomRight, _ standing: Standing, _ room: Room) -> Bool
  {
    switch right {
    case .read: standing.permissions.contains(.read)
    case .write: standing.permissions.contains(.write)
    case .manage: canManage(standing, room)
    case .member: standing.isMember
    // Decided on other grounds: a waiting rule, a level at the entity.
    case .invited, .create: true
    }
  }

  /// What to put in place of a rule; nil deletes it.
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

  /// Whether a caller who manages the room may make this change: nobody grants or touches letters or
  /// a level beyond their own, but whoever manages may ban; nobody takes anything from the creator.
  package static func mayChange(
    _ change: RuleChange, by caller: Caller, _ standing: Standing, in room: Room
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
    return isWithinOwn(new.permissions, new.level)
  }
}
