internal import Access
package import Accounts
package import Basics
package import Database
internal import Events

/// The channels of teams, and the dialogs between their members: they follow every change of their team, in its
/// transaction.
///
/// Who may read and write in a channel follows from the memberships (`RuleEngine`). In a dialog the two are named
/// people, and one who leaves the team is removed from the dialog's people.
package struct TeamChannels: TeamRooms {
  private let rooms: Rooms
  private let appender: LogAppender

  package init(rooms: Rooms, appender: LogAppender) {
    self.rooms = rooms
    self.appender = appender
  }

  package func makeChannel(
    of team: Team, by creator: UserID, in transaction: Transaction
  ) async throws -> RoomID {
    try transaction.willLock(.roomHeads)
    let id = try await RoomStore.insert(
      Room.Properties(name: team.name, kind: .channel, createdAt: team.createdAt, team: team.id),
      in: transaction)
    let room = try await rooms.announce(id, in: transaction)
    try await record(RoomEvent(.created, name: team.name), in: room, by: creator, transaction)
    return id
  }

  package func lock(
    _ teams: [Team], with user: UserID, in transaction: Transaction
  ) async throws {
    var ids = teams.compactMap(\.channel)
    for team in teams {
      ids += try await RoomStore.dialogs(of: team.id, with: user, in: transaction)
    }
    try await RoomStore.lock(ids, in: transaction)
  }

  package func apply(
    _ change: TeamChange, to team: Team, by actor: UserID, in transaction: Transaction
  ) async throws {
    guard let channel = team.channel else { return }
    let dialogs = try await affectedDialogs(change, of: team.id, in: transaction)
    // All at once, because heads are locked in the order of their ids.
    try await RoomStore.lock([channel] + dialogs, in: transaction)
    guard let room = try await rooms.directory.readAgain(channel, in: transaction) else { return }
    switch change {
    case .renamed(let name):
      var properties = room.properties
      properties.name = name
      try await RoomStore.update(channel, properties, in: transaction)
      try await rooms.bump(channel, in: transaction)
    case .activated: try await setBlock(nil, of: [channel] + dialogs, in: transaction)
    case .deactivated:
      try await setBlock(.teamInactive, of: [channel] + dialogs, in: transaction)
    case .deleted:
      try await rooms.markDeleted(channel, in: transaction)
      try await setBlock(.teamDeleted, of: dialogs, in: transaction)
    case .added(let user), .joined(let user):
      for dialog in dialogs { try await restore(user, to: dialog, in: transaction) }
    case .removed(let user), .left(let user):
      for dialog in dialogs { try await remove(user, from: dialog, in: transaction) }
      try await RoomPeopleStore.forgetAct(of: user, in: channel, transaction)
      try await MarkStore.end([user], in: channel, transaction)
    case .madeAdmin, .unmadeAdmin, .handedOver: break
    }
    for event in Self.events(of: change) {
      try await record(event, in: room, by: actor, transaction)
    }
  }

  /// Returns the events that the channel's log records for a change.
  static func events(of change: TeamChange) -> [RoomEvent] {
    switch change {
    case .renamed(let name): [RoomEvent(.renamed, name: name)]
    case .added(let user): [RoomEvent(.added, subject: user)]
    case .joined(let user): [RoomEvent(.joined, subject: user)]
    case .removed(let user): [RoomEvent(.removed, subject: user)]
    case .left(let user): [RoomEvent(.left, subject: user)]
    case .madeAdmin(let user): [RoomEvent(.adminMade, subject: user)]
    case .unmadeAdmin(let user): [RoomEvent(.adminUnmade, subject: user)]
    case .handedOver(let from, let to):
      [
        RoomEvent(.roleChanged, subject: to, name: TeamRole.superAdmin.rawValue),
        RoomEvent(.roleChanged, subject: from, name: TeamRole.admin.rawValue),
      ]
    case .activated, .deactivated, .deleted: []
    }
  }

  private func record(
    _ event: RoomEvent, in room: Room, by actor: UserID, _ transaction: Transaction
  ) async throws {
    try await appender.append(
      [
        Draft(
          roomID: room.id, channelID: room.entryChannelID, from: actor, body: .event(event),
          access: .decided)
      ], in: transaction)
  }

  // MARK: Dialogs

  /// The team's dialogs that a change concerns.
  private func affectedDialogs(
    _ change: TeamChange, of team: TeamID, in transaction: Transaction
  ) async throws -> [RoomID] {
    switch change {
    case .activated, .deactivated, .deleted:
      try await RoomStore.dialogs(of: team, in: transaction)
    case .added(let user), .joined(let user), .removed(let user), .left(let user):
      try await RoomStore.dialogs(of: team, with: user, in: transaction)
    case .renamed, .madeAdmin, .unmadeAdmin, .handedOver: []
    }
  }

  private func setBlock(
    _ block: WriteBlock?, of ids: [RoomID], in transaction: Transaction
  ) async throws {
    try await RoomStore.setWriteBlock(block, of: ids, in: transaction)
    try await rooms.announce(ids, in: transaction)
  }

  private func restore(
    _ user: UserID, to dialog: RoomID, in transaction: Transaction
  ) async throws {
    let version = try await RoomStore.raiseAccessVersion(dialog, in: transaction)
    try await RoomPeopleStore.put(
      RoomPerson(userID: user, joinedAt: .now, isAccepted: true), in: dialog, version: version,
      transaction)
    try await MarkStore.start([user], in: dialog, transaction)
    _ = try await rooms.announce(dialog, in: transaction)
  }

  private func remove(
    _ user: UserID, from dialog: RoomID, in transaction: Transaction
  ) async throws {
    let version = try await RoomStore.raiseAccessVersion(dialog, in: transaction)
    try await RoomPeopleStore.remove(user, from: dialog, version: version, transaction)
    try await RoomPeopleStore.forgetAct(of: user, in: dialog, transaction)
    try await MarkStore.end([user], in: dialog, transaction)
    _ = try await rooms.announce(dialog, in: transaction)
  }
}
