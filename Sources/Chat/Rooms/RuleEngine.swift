package import Access
internal import Accounts
package import Basics
package import Events

/// The position of a caller in a room.
package enum Standing: Sendable, Equatable {
  /// Nothing admits the caller: no accepted rule, no name among the people, and not the channel's team. For this caller
  /// the room does not exist.
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

  /// What admits a person to a room.
  package struct Sources: OptionSet, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// A rule for the person or for one of the person's entities, or having made the room.
    package static let rule = Sources(rawValue: 1)
    /// Being named in the room.
    package static let people = Sources(rawValue: 2)
    /// Being in the team whose channel the room is.
    package static let team = Sources(rawValue: 4)
  }

  /// Returns the caller's standing: the union of the letters of everything that admits the caller, without `w` while
  /// nobody may write in the room, and the highest level of the matching rules. For a caller in the room's owner
  /// entity, the level is at least the caller's own.
  package static func standing(of caller: Caller, in room: Room) -> Standing {
    standing(
      of: caller.userID, level: caller.level, isOf: caller.isOf, roleIn: caller.role(in:), in: room)
  }

  /// The same for an account with these memberships.
  package static func standing(
    of user: UserID, _ affiliations: Affiliations, in room: Room
  ) -> Standing {
    standing(
      of: user, level: Caller.levelOfLocalUsers, isOf: affiliations.entities.contains,
      roleIn: { affiliations.teams[$0]?.role }, in: room)
  }

  /// `level` is the person's `levelOnEntity`. `isOf` tells whether the person belongs to an entity, and `roleIn` the
  /// person's role in a team.
  private static func standing(
    of user: UserID, level: Int64, isOf: (UUID) -> Bool, roleIn: (TeamID) -> TeamRole?,
    in room: Room
  ) -> Standing {
    sum(of: user, level: level, isOf: isOf, roleIn: roleIn, in: room)
      .standing(canWrite: !isReadOnly(room) && !room.blocked.contains(user))
  }

  private static func sum(
    of user: UserID, level ownLevel: Int64, isOf: (UUID) -> Bool, roleIn: (TeamID) -> TeamRole?,
    in room: Room
  ) -> Sum {
    var sum = Sum(isCreator: user == room.ownerUser)
    for rule in room.rules where rule.isAccepted {
      let isOwn = rule.subject == user.uuid
      // In a room for two only rules for people count.
      guard isOwn || (room.type == .group && isOf(rule.subject)) else { continue }
      sum.add(rule.permissions, .rule, level: rule.level, isOwn: isOwn)
    }
    if let entity = room.ownerEntity, isOf(entity) { sum.level = max(sum.level, ownLevel) }
    if let person = room.people[user], person.isAccepted {
      sum.add(room.permissions(ofRole: person.roleID), .people, level: 0, isOwn: true)
    }
    if room.kind == .channel, let team = room.properties.team, let role = roleIn(team) {
      sum.add(permissions(of: role), .team, level: 0, isOwn: true)
    }
    return sum
  }

  /// Returns what admits an account with these memberships to the room, whatever letters that gives.
  package static func sources(
    of user: UserID, _ affiliations: Affiliations, in room: Room
  ) -> Sources {
    sum(
      of: user, level: 0, isOf: affiliations.entities.contains,
      roleIn: { affiliations.teams[$0]?.role }, in: room
    ).sources
  }

  /// The letters that members of a team have in its channel.
  package static func permissions(of role: TeamRole) -> Permissions {
    role.isManager ? creatorPermissions : memberPermissions
  }

  private static let memberPermissions: Permissions = [.read, .write]

  /// Whether nobody may write in the room at present.
  private static func isReadOnly(_ room: Room) -> Bool {
    room.properties.writeBlock != nil || room.hasLostPeer
  }

  /// Returns the error code for a caller who may not write in the room.
  package static func refusalToWrite(_ caller: Caller, in room: Room) -> ErrorCode {
    guard standing(of: caller, in: room).isMember else { return .roomNotFound }
    if let block = room.properties.writeBlock { return block.code }
    if room.hasLostPeer {
      return room.properties.team == nil ? Self.peerIsErased : .recipientNotInTeam
    }
    return room.blocked.contains(caller.userID) ? .blocked : .forbidden
  }

  private static let peerIsErased = ErrorCode.forbidden.saying(
    "The account of the other person was deleted, so nobody can write here.")

  /// The total of everything that admits a person.
  private struct Sum {
    let isCreator: Bool
    private var permissions: Permissions
    var level: Int64 = 0
    /// Empty for strangers.
    private(set) var sources: Sources
    private var isBannedByName = false
    private var isBannedByEntity = false
    private var holdsAdminByName = false

    init(isCreator: Bool) {
      self.isCreator = isCreator
      // Not `[]`, which the standard library builds with a loop that is not specialized; this runs for every message.
      permissions = isCreator ? creatorPermissions : Permissions(rawValue: 0)
      sources = isCreator ? .rule : Sources(rawValue: 0)
    }

    mutating func add(_ letters: Permissions, _ source: Sources, level: Int64, isOwn: Bool) {
      sources.formUnion(source)
      permissions.formUnion(letters)
      self.level = max(self.level, level)
      if letters.contains(.banned) {
        if isOwn { isBannedByName = true } else { isBannedByEntity = true }
      }
      if isOwn, letters.contains(.admin) { holdsAdminByName = true }
    }

    func standing(canWrite: Bool) -> Standing {
      guard sources.rawValue != 0 else { return .stranger }
      // A ban of an admin's entity does not exclude the admin.
      if !isCreator, isBannedByName || (isBannedByEntity && !holdsAdminByName) { return .banned }
      let held = permissions.subtracting(.banned)
      return .member(canWrite ? held : held.subtracting(.write), level: level)
    }
  }

  /// Returns one line for each room that the caller may read. `lines` are everything that admits the caller to rooms.
  static func readable(_ lines: [InboxLine], by caller: Caller) -> [InboxLine] {
    var sums: [RoomID: (sum: Sum, line: InboxLine)] = [:]
    for line in lines where line.isOwn || line.kind.type == .group {
      sums[line.room, default: (Sum(isCreator: caller.userID == line.ownerUser), line)].sum
        .add(line.permissions, .rule, level: 0, isOwn: line.isOwn)
    }
    return sums.values
      .filter { $0.sum.standing(canWrite: true).permissions.contains(.read) }.map(\.line)
  }

  /// Returns what the caller's permission to write is based on, or nil if the caller may not write. Memberships are
  /// included only if the permission does not exist without them.
  package static func grantToWrite(_ caller: Caller, in room: Room) -> Draft.Grant? {
    guard standing(of: caller, in: room).permissions.contains(.write) else { return nil }
    let alone = standing(
      of: caller.userID, level: caller.level, isOf: { _ in false }, roleIn: { _ in nil }, in: room)
    return Draft.Grant(
      accessVersion: room.accessVersion,
      affiliationsVersion: alone.permissions.contains(.write) ? nil : caller.affiliations?.version,
      session: caller.sessionID)
  }

  /// Returns whether the caller may write this in the room, and what that is based on.
  package static func access(
    of caller: Caller, to body: EntryBody, in room: Room
  ) -> Draft.Access {
    let grant =
      if case .deletion = body { grantToDelete(caller, in: room) } else {
        grantToWrite(caller, in: room)
      }
    return grant.map { .granted($0) } ?? .denied(refusalToWrite(caller, in: room))
  }

  /// Returns what the permission to delete a message is based on, or nil if the caller is not in the room. Whether the
  /// caller wrote the message is known to the log only; authors may delete it even where they may not write any more.
  package static func grantToDelete(_ caller: Caller, in room: Room) -> Draft.Grant? {
    let standing = standing(of: caller, in: room)
    guard standing.isMember else { return nil }
    return Draft.Grant(
      accessVersion: room.accessVersion, affiliationsVersion: caller.affiliations?.version,
      session: caller.sessionID, isManager: canManage(standing, room))
  }

  /// The lowest level at which a user may answer an invitation for an entity of another system.
  package static let levelToAnswerForEntity: Int64 = 100

  /// Whether the caller may answer for this entity. For an organization or a team of this server, its admins may. For
  /// an entity of another system, everyone in it with a level of at least `levelToAnswerForEntity` may.
  package static func mayAnswer(for entity: UUID, _ caller: Caller) -> Bool {
    guard caller.isOf(entity) else { return false }
    return caller.affiliations.map { $0.manages(entity) == true }
      ?? (caller.level >= levelToAnswerForEntity)
  }

  /// Returns the rules that wait for an answer that the caller may give.
  package static func invitations(of caller: Caller, to room: Room) -> [RoomRule] {
    room.rules.filter { rule in
      !rule.isAccepted
        && (rule.subject == caller.userID.uuid
          || (room.type == .group && mayAnswer(for: rule.subject, caller)))
    }
  }

  /// Whether a rule for the caller or for an entity of the caller waits for an answer, or the caller is named in the
  /// room and has not answered.
  package static func isInvited(_ caller: Caller, to room: Room) -> Bool {
    if room.people[caller.userID]?.isAccepted == false { return true }
    return room.rules.contains {
      !$0.isAccepted
        && ($0.subject == caller.userID.uuid
          || (room.type == .group && caller.isOf($0.subject)))
    }
  }

  /// Whether the letter `a` is held by anybody besides the creator: by a person who is named, or by an accepted rule.
  static func hasAdministrator(_ room: Room) -> Bool {
    room.rules.contains {
      $0.isAccepted && $0.permissions.contains(.admin) && !$0.permissions.contains(.banned)
    }
      || room.people.all.contains {
        $0.isAccepted && room.permissions(ofRole: $0.roleID).contains(.admin)
      }
  }

  package static func canManage(_ standing: Standing, _ room: Room) -> Bool {
    guard case .member(let permissions, let level) = standing else { return false }
    return permissions.contains(.admin) || level >= room.levelAdmin
  }

  /// Whether a standing suffices for an operation in the room.
  package static func allows(_ right: RoomRight, _ standing: Standing, _ room: Room) -> Bool {
    switch right {
    case .read, .readAndManageOrOwnMessage: standing.permissions.contains(.read)
    case .write, .writeOwnMessage: standing.permissions.contains(.write)
    case .manage: canManage(standing, room)
    case .member: standing.isMember
    // Decided elsewhere: by a waiting invitation, by the caller's level, or by whether the rule, the person or the
    // message is the caller's own.
    case .invited, .create, .manageOrOwnRule, .manageOrSelf, .manageOrOwnMessage: true
    }
  }

  /// Whether the caller may give these letters to people of the room, by name, by a role or by default, and may change
  /// people and roles that have them. Only the creator, and platform admins who manage the room, may handle letters
  /// beyond their own.
  package static func mayHandle(
    _ permissions: Permissions, by caller: Caller, _ standing: Standing, in room: Room
  ) -> Bool {
    guard canManage(standing, room) else { return false }
    if caller.userID == room.ownerUser || caller.isPlatformAdmin { return true }
    return permissions.isSubset(of: standing.permissions)
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

  /// Whether a caller who manages the room may make this change. Only the creator and platform admins may grant or
  /// touch letters or a level beyond their own. Every manager may ban subjects without rights beyond the manager's.
  /// Nobody may take anything from the creator. `subject` is the standing of the person whom the rule names, if it is
  /// an account: letters from an organization protect from a ban like those of a rule for the person.
  package static func mayChange(
    _ change: RuleChange, of subject: Standing = .stranger, by caller: Caller,
    _ standing: Standing, in room: Room
  ) -> Bool {
    guard canManage(standing, room) else { return false }
    if change.subject == room.ownerUser?.uuid {
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
