package import Access
package import Basics

/// A group of people with a channel in which they talk.
package struct Team: Sendable {
  package let id: TeamID
  package var name: String
  /// An `http` or `https` URI.
  package var icon: String?
  /// Whether its members may write, in the channel and to each other.
  package var isActive: Bool
  package var metaTags: [String]
  /// Nil for a team that stands alone.
  package let organization: OrganizationID?
  /// The room that is the team's channel.
  package let channel: RoomID?
  package let createdAt: Timestamp
  package var memberCount: Int64

  package init(
    id: TeamID, name: String, icon: String? = nil, isActive: Bool = true, metaTags: [String] = [],
    organization: OrganizationID? = nil, channel: RoomID? = nil, createdAt: Timestamp,
    memberCount: Int64 = 0
  ) {
    self.id = id
    self.name = name
    self.icon = icon
    self.isActive = isActive
    self.metaTags = metaTags
    self.organization = organization
    self.channel = channel
    self.createdAt = createdAt
    self.memberCount = memberCount
  }
}

/// Someone in a team.
package struct TeamMember: Sendable {
  package let userID: UserID
  package let name: String
  package let email: String
  package let role: TeamRole
  package let joinedAt: Timestamp
}

/// Someone who was asked to join a team and has not answered.
package struct TeamInvitation: Sendable {
  /// Random.
  package let id: UUID
  package let team: TeamID
  package let teamName: String
  package let invitedBy: UserID
  package let createdAt: Timestamp
}
