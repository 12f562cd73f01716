package import Access
package import Basics

/// How many people a room is for, in the words of the nano protocol.
package enum RoomType: String, Sendable, CaseIterable {
  case group
  case userToUser = "user2user"

  package var code: Int64 { self == .group ? 0 : 1 }

  package init?(code: Int64) {
    guard let type = Self.allCases.first(where: { $0.code == code }) else { return nil }
    self = type
  }

  /// The kind of room that clients see besides the type.
  package var kind: String { self == .group ? "group" : "dialog" }
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

/// A room with all its rules at one access version: everything that a decision on access needs.
package final class Room: Sendable {
  package let id: RoomID
  package let name: String
  package let type: RoomType
  package let levelAdmin: Int64
  package let ownerUser: UserID
  /// Nil if the creator belonged to no entity.
  package let ownerEntity: UUID?
  /// Whether new rules wait for their subject's answer.
  package let isByInvitation: Bool
  package let createdAt: Timestamp
  package let rules: [RoomRule]
  /// Raised by every change of the room or its rules.
  package let accessVersion: Int64

  package init(
    id: RoomID, name: String, type: RoomType, levelAdmin: Int64, ownerUser: UserID,
    ownerEntity: UUID?, isByInvitation: Bool, createdAt: Timestamp, rules: [RoomRule],
    accessVersion: Int64
  ) {
    self.id = id
    self.name = name
    self.type = type
    self.levelAdmin = levelAdmin
    self.ownerUser = ownerUser
    self.ownerEntity = ownerEntity
    self.isByInvitation = isByInvitation
    self.createdAt = createdAt
    self.rules = rules
    self.accessVersion = accessVersion
  }

  /// The room's channel as clients name it: its id in decimal. The channel of a team will be the team's id.
  package var channelID: String { id.description }

  package func rule(for subject: UUID) -> RoomRule? { rules.first { $0.subject == subject } }
}

/// An accepted rule that includes some person, with the facts about its room that decide whether they may read it.
struct InboxLine: Sendable {
  let room: RoomID
  let type: RoomType
  let ownerUser: UserID
  let permissions: Permissions
  /// Whether the rule names the person, not one of their entities.
  let isOwn: Bool
  /// The time of the last entry, or of the room's creation.
  let activeAt: Timestamp
}
