package import Access
package import Basics

/// How many people a room is for, in the words of the nano protocol.
package enum RoomType: String, Sendable, CaseIterable {
  case group
  case userToUser = "user2user"
}

/// The kind of a room. It decides how people get into the room.
package enum RoomKind: String, Sendable, CaseIterable {
  /// People get in by rules, or are named one by one.
  case group
  /// For two people.
  case dialog
  /// Everyone in a team. Made, changed and deleted with the team.
  case channel
  /// Like `group`, but for messages that are destroyed for good when they are deleted or their time is over.
  case secret

  /// The value of `rooms.type` for this kind.
  package var code: Int64 {
    switch self {
    case .group: 0
    case .dialog: 1
    case .channel: 2
    case .secret: 3
    }
  }

  package init?(code: Int64) {
    guard let kind = Self.allCases.first(where: { $0.code == code }) else { return nil }
    self = kind
  }

  package var type: RoomType { self == .dialog ? .userToUser : .group }
}

/// The reason why nobody may write in a room, whatever their letters are. Only rooms of teams have such a reason.
package enum WriteBlock: Int64, Sendable {
  case teamInactive = 1
  case teamDeleted = 2

  /// `forbidden`, with a meaning that names the reason.
  package var code: ErrorCode {
    switch self {
    case .teamInactive:
      .forbidden.saying("The team is not active at present, so nobody can write here.")
    case .teamDeleted:
      .forbidden.saying("The team was deleted, so nobody can write here.")
    }
  }
}

/// One row of a room's table of permissions.
package struct RoomRule: Sendable, Equatable {
  /// A person's id, or the id of an entity, for everyone in it.
  package let subject: UUID
  package var permissions: Permissions
  package var level: Int64
  /// False while the subject has not answered the invitation.
  package var isAccepted: Bool

  package init(subject: UUID, permissions: Permissions, level: Int64, isAccepted: Bool) {
    self.subject = subject
    self.permissions = permissions
    self.level = level
    self.isAccepted = isAccepted
  }
}

/// The two people of a dialog, in the order of their ids.
package struct DialogPair: Sendable, Hashable {
  package let low: UserID
  package let high: UserID

  package init(_ one: UserID, _ other: UserID) {
    (low, high) = one.uuid < other.uuid ? (one, other) : (other, one)
  }

  /// Returns the other one of the two, or nil if the user is neither.
  package func other(than user: UserID) -> UserID? {
    user == low ? high : user == high ? low : nil
  }
}

package typealias RoleID = Identifier<RoomRole>

/// A named set of letters that people of one room can have.
package struct RoomRole: Sendable, Equatable {
  package let id: RoleID
  package var name: String
  /// Any of the letters `r`, `w` and `a`.
  package var permissions: Permissions

  package init(id: RoleID, name: String, permissions: Permissions) {
    self.id = id
    self.name = name
    self.permissions = permissions
  }
}

/// A room with its rules, roles and people at one access version: everything that a decision on access needs.
/// Immutable, and shared by reference by all loops.
package final class Room: Sendable {
  /// What is in the room's own row.
  package struct Properties: Sendable, Equatable {
    package var name: String
    package var kind: RoomKind
    package var levelAdmin: Int64
    /// The creator. Nil for rooms of teams, and for dialogs that nobody manages.
    package var ownerUser: UserID?
    /// Nil if the creator belonged to no entity.
    package var ownerEntity: UUID?
    /// Whether new rules and people wait for an answer.
    package var isByInvitation: Bool
    package var createdAt: Timestamp
    /// The letters of people without a role.
    package var defaultPermissions: Permissions
    /// The team of a channel or of a dialog between its members.
    package var team: TeamID?
    package var writeBlock: WriteBlock?
    /// The two people of a dialog that was made for them, even if one of them has left. Nil for a `user2user` room
    /// with rules.
    package var pair: DialogPair?
    /// How long messages of a secret room exist; nil: until somebody deletes them.
    package var ttlSeconds: Int64?
    /// After how many days messages are deleted; nil: never.
    package var retentionDays: Int64?

    package init(
      name: String, kind: RoomKind = .group, levelAdmin: Int64 = Properties.highestLevel,
      ownerUser: UserID? = nil, ownerEntity: UUID? = nil, isByInvitation: Bool = false,
      createdAt: Timestamp, defaultPermissions: Permissions = [.read, .write], team: TeamID? = nil,
      writeBlock: WriteBlock? = nil, pair: DialogPair? = nil, ttlSeconds: Int64? = nil,
      retentionDays: Int64? = nil
    ) {
      self.name = name
      self.kind = kind
      self.levelAdmin = levelAdmin
      self.ownerUser = ownerUser
      self.ownerEntity = ownerEntity
      self.isByInvitation = isByInvitation
      self.createdAt = createdAt
      self.defaultPermissions = defaultPermissions
      self.team = team
      self.writeBlock = writeBlock
      self.pair = pair
      self.ttlSeconds = ttlSeconds
      self.retentionDays = retentionDays
    }

    /// The `level_admin` of a room that names none: the highest level there is.
    package static let highestLevel: Int64 = 1 << 53
  }

  package let id: RoomID
  package let properties: Properties
  package let rules: [RoomRule]
  package let roles: [RoomRole]
  /// For a channel none: its people are those of the team.
  package let people: RoomPeople
  /// Those of a dialog who may not write because the other one blocks them. Empty for other rooms.
  package let blocked: Set<UserID>
  /// Raised by every change of the room, its rules, its roles, its people, or of who is blocked.
  package let accessVersion: Int64

  package init(
    id: RoomID, _ properties: Properties, rules: [RoomRule] = [], roles: [RoomRole] = [],
    people: RoomPeople = .none, blocked: Set<UserID> = [], accessVersion: Int64
  ) {
    self.id = id
    self.properties = properties
    self.rules = rules
    self.roles = roles
    self.people = people
    self.blocked = blocked
    self.accessVersion = accessVersion
  }

  /// Returns the users whose standing may have changed since this earlier version of the room, or nil if any user's
  /// standing may have changed.
  package func usersChanged(since old: Room) -> Set<UserID>? {
    guard properties == old.properties, rules == old.rules, roles == old.roles,
      // In a dialog the standing of one depends on the other one.
      kind != .dialog
    else { return nil }
    return people.difference(from: old.people)
  }

  package var name: String { properties.name }
  package var kind: RoomKind { properties.kind }
  package var type: RoomType { properties.kind.type }
  package var levelAdmin: Int64 { properties.levelAdmin }
  package var ownerUser: UserID? { properties.ownerUser }
  package var ownerEntity: UUID? { properties.ownerEntity }
  package var isByInvitation: Bool { properties.isByInvitation }
  package var createdAt: Timestamp { properties.createdAt }

  /// The room's channel as clients name it: the id of the team for its channel, otherwise the room's id in decimal.
  package var channelID: String {
    if kind == .channel, let team = properties.team { team.description } else { id.description }
  }

  /// The `channel_id` of the room's entries. In a dialog of a team it is the team's id, as in the message that was
  /// sent to the team's channel for one member.
  package var entryChannelID: String { properties.team?.description ?? id.description }

  /// The `to` of an entry of this author: the other one in a dialog of a team. Nil means everyone.
  package func recipient(of author: UserID?) -> UserID? {
    guard properties.team != nil, let pair = properties.pair, let author else { return nil }
    return pair.other(than: author)
  }

  /// Whether one of the two in a dialog is gone: out of the team that the dialog belongs to, or because the account was
  /// erased. The other one can only read.
  package var hasLostPeer: Bool { properties.pair != nil && people.count < 2 }

  /// Everyone who is named in the room, or by one of its rules.
  var named: [UserID] { people.all.map(\.userID) + rules.map { UserID($0.subject) } }

  package func rule(for subject: UUID) -> RoomRule? { rules.first { $0.subject == subject } }

  package func role(_ id: RoleID) -> RoomRole? { roles.first { $0.id == id } }

  /// The letters of a person with this role. A role that is missing gives none.
  package func permissions(ofRole id: RoleID?) -> Permissions {
    guard let id else { return properties.defaultPermissions }
    return role(id)?.permissions ?? Permissions(rawValue: 0)
  }
}

/// A room that a person may read.
struct ListedRoom: Sendable {
  let room: RoomID
  let kind: RoomKind
  /// The time of the last message, or of the room's creation if there is none.
  let activeAt: Timestamp
}

/// Something that admits a person to a room, with the facts about the room that decide whether the person may read it.
struct InboxLine: Sendable {
  let room: RoomID
  let kind: RoomKind
  let ownerUser: UserID?
  let permissions: Permissions
  /// Whether it admits the person as such: a rule for the person, being named, or being in the channel's team. False
  /// for a rule of one of the person's entities.
  let isOwn: Bool
  /// The time of the last message, or of the room's creation if there is none.
  let activeAt: Timestamp
}
