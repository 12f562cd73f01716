package import Access
internal import Accounts
package import Basics
internal import Crypto
internal import Database
internal import Events

/// The people of a room, who are named one by one, and their roles.
extension Rooms {
  /// A person of a room, as others see them.
  package struct PersonView: Sendable {
    package let person: RoomPerson
    package let name: String
    package let permissions: Permissions
  }

  private static func view(
    _ person: RoomPerson, in room: Room, _ transaction: Transaction
  ) async throws -> PersonView {
    let names = try await People.names(of: [person.userID], in: transaction)
    return PersonView(
      person: person, name: names[person.userID] ?? "",
      permissions: room.permissions(ofRole: person.roleID))
  }

  /// Returns the people of a room after `place`, in the order in which they came; `limit` + 1 of them if there are more
  /// than `limit`.
  package func people(
    of id: RoomID, as caller: Caller, behind place: (joinedAt: Timestamp, user: UserID)?,
    limit: Int
  ) async throws -> [PersonView] {
    try await database.read { transaction in
      let (room, _) = try self.require(
        .read, caller, try await self.directory.read(id, in: transaction))
      let people = room.people.all
        .filter { person in
          guard let place else { return true }
          return (person.joinedAt, person.userID.uuid) > (place.joinedAt, place.user.uuid)
        }
        .sorted { ($0.joinedAt, $0.userID.uuid) < ($1.joinedAt, $1.userID.uuid) }
        .prefix(limit + 1)
      let names = try await People.names(of: people.map(\.userID), in: transaction)
      return people.map {
        PersonView(
          person: $0, name: names[$0.userID] ?? "",
          permissions: room.permissions(ofRole: $0.roleID))
      }
    }
  }

  /// The outcome of naming a person.
  package enum Naming: Sendable {
    case named(PersonView)
    /// The person is outside the caller's circle, and was invited instead of added.
    case invited
  }

  /// Names a person, or gives them another role. If `role` is nil, the person's role stays as it is; an inner nil means
  /// no role.
  package func setPerson(
    _ user: UserID, role: RoleID??, in id: RoomID, by caller: Caller
  ) async throws -> Naming {
    try await database.write { transaction in
      let (room, standing) = try self.require(
        .manage, caller, try await self.directory.readForUpdate(id, in: transaction))
      guard try await People.exists(user, in: transaction) else { throw AppError(.userNotFound) }
      let old = room.people[user]
      let newRole = role ?? old?.roleID
      if let newRole, room.role(newRole) == nil { throw AppError(.roleNotFound) }
      var letters = [room.permissions(ofRole: newRole)]
      if let old { letters.append(room.permissions(ofRole: old.roleID)) }
      guard
        letters.allSatisfy({ RuleEngine.mayHandle($0, by: caller, standing, in: room) })
      else { throw AppError(.forbidden) }
      if let old {
        guard old.roleID != newRole else {
          return .named(try await Self.view(old, in: room, transaction))
        }
        var person = old
        person.roleID = newRole
        return .named(try await self.change(person, in: room, by: caller, transaction))
      }
      try await People.requireNotBlocked(caller.userID, by: user, in: transaction)
      try self.requirePlace(for: user, in: room)
      let isKnown = try await self.circle.contains(user, of: caller.userID, in: transaction)
      let isAccepted = isKnown && !room.isByInvitation
      let person = RoomPerson(
        userID: user, roleID: newRole, joinedAt: .now, isAccepted: isAccepted)
      let view = try await self.enter(
        person, room, isAccepted ? RoomEvent(.added, subject: user) : nil, by: caller, transaction)
      return isKnown ? .named(view) : .invited
    }
  }

  private func requirePlace(for user: UserID, in room: Room) throws(AppError) {
    if room.kind == .dialog {
      var others = Set(room.people.all.map(\.userID.uuid))
      for rule in room.rules where rule.permissions != .banned { others.insert(rule.subject) }
      others.remove(user.uuid)
      guard others.count < 2 else { throw AppError(.roomFull) }
    }
    guard room.people.count < maximumPeople else { throw AppError(.tooManyPeople) }
  }

  private func enter(
    _ person: RoomPerson, _ room: Room, _ event: RoomEvent?, by caller: Caller,
    _ transaction: Transaction
  ) async throws -> PersonView {
    let version = try await RoomStore.raiseAccessVersion(room.id, in: transaction)
    try await RoomPeopleStore.put(
      person, invitation: person.isAccepted ? nil : .version4(), in: room.id, version: version,
      transaction)
    let new = try await announce(room.id, in: transaction)
    if let event { try await record(event, in: new, by: caller, transaction) }
    // Behind the event, which is no news to whom it is about. Who could read the room before does not come in now.
    if person.isAccepted {
      if try await mayRead(person.userID, room, transaction) {
        try await MarkStore.startWhereMissing(person.userID, in: [room.id], transaction)
      } else {
        try await MarkStore.start([person.userID], in: room.id, transaction)
      }
    }
    if !person.isAccepted {
      transaction.afterCommit { [events] in
        events.publish([
          .access(.invited(room.id, subject: person.userID.uuid, version: version))
        ])
      }
    }
    return try await Self.view(person, in: new, transaction)
  }

  /// Writes the new role of a person who is named already.
  private func change(
    _ person: RoomPerson, in room: Room, by caller: Caller, _ transaction: Transaction
  ) async throws -> PersonView {
    let version = try await RoomStore.raiseAccessVersion(room.id, in: transaction)
    let invitation =
      person.isAccepted
      ? nil
      : try await RoomPeopleStore.invitation(of: person.userID, to: room.id, in: transaction)
    try await RoomPeopleStore.put(
      person, invitation: invitation, in: room.id, version: version, transaction)
    let new = try await announce(room.id, in: transaction)
    if person.isAccepted {
      try await record(
        RoomEvent(
          .roleChanged, subject: person.userID, name: person.roleID.flatMap { new.role($0)?.name }),
        in: new, by: caller, transaction)
    }
    return try await Self.view(person, in: new, transaction)
  }

  /// Removes a person. Removing oneself is leaving. Throws `user_not_found` if the person is not named, and
  /// `not_a_member` if the caller wants to leave without being named or before accepting.
  package func removePerson(
    _ user: UserID, from id: RoomID, by caller: Caller
  ) async throws {
    try await database.write(.essential) { transaction in
      let isSelf = user == caller.userID
      let (room, standing) = try self.require(
        isSelf ? .member : .manage, caller,
        try await self.directory.readForUpdate(id, in: transaction))
      if room.kind == .channel { throw AppError(.managedByTeam) }
      guard let person = room.people[user], person.isAccepted || !isSelf else {
        throw AppError(isSelf ? .notAMember : .userNotFound)
      }
      let isAllowed =
        isSelf
        || RuleEngine.mayHandle(
          room.permissions(ofRole: person.roleID), by: caller, standing, in: room)
      // In a dialog that was made for two, both stay.
      guard isAllowed, user != room.ownerUser, room.properties.pair == nil else {
        throw AppError(.forbidden)
      }
      try await self.exit(
        person, room, person.isAccepted ? RoomEvent(isSelf ? .left : .removed, subject: user) : nil,
        by: caller, transaction)
    }
  }

  private func exit(
    _ person: RoomPerson, _ room: Room, _ event: RoomEvent?, by caller: Caller,
    _ transaction: Transaction
  ) async throws {
    let version = try await RoomStore.raiseAccessVersion(room.id, in: transaction)
    try await RoomPeopleStore.remove(
      person.userID, from: room.id, version: version, transaction)
    if room.rule(for: person.userID.uuid) == nil {
      try await RoomPeopleStore.forgetAct(of: person.userID, in: room.id, transaction)
    }
    let new = try await announce(room.id, in: transaction)
    if let event { try await record(event, in: new, by: caller, transaction) }
    try await endReading(of: person.userID, in: new, transaction)
  }

  private func mayRead(
    _ user: UserID, _ room: Room, _ transaction: Transaction
  ) async throws -> Bool {
    let affiliations = try await RuleSubjects.affiliations(of: user, in: transaction)
    return RuleEngine.standing(of: user, affiliations, in: room).permissions.contains(.read)
  }

  /// Ends the mark of somebody who has lost a rule or a place in a room, unless they may read it all the same.
  func endReading(of user: UserID, in room: Room, _ transaction: Transaction) async throws {
    if try await mayRead(user, room, transaction) { return }
    try await MarkStore.end([user], in: room.id, transaction)
  }

  /// Appends an event to the room's log.
  func record(
    _ event: RoomEvent, in room: Room, by actor: Caller, _ transaction: Transaction
  ) async throws {
    try await appender.append(
      [
        Draft(
          roomID: room.id, channelID: room.entryChannelID, from: actor.userID,
          body: .event(event), access: .decided)
      ], in: transaction)
  }

  // MARK: Membership

  /// A user's standing in a room, and what admits the user to it.
  package struct Membership: Sendable {
    package let userID: UserID
    package let standing: Standing
    package let sources: RuleEngine.Sources
  }

  /// Returns whether a user is in the room, and by what. What a token of another system says about its user is not
  /// known here, so such a user counts as in only by a rule of their own.
  package func membership(
    of user: UserID, in id: RoomID, as caller: Caller
  ) async throws -> Membership {
    try await database.read { transaction in
      let (room, _) = try self.require(
        .read, caller, try await self.directory.read(id, in: transaction))
      let affiliations = try await RuleSubjects.affiliations(of: user, in: transaction)
      let standing = RuleEngine.standing(of: user, affiliations, in: room)
      return Membership(
        userID: user, standing: standing,
        sources: standing.isMember ? RuleEngine.sources(of: user, affiliations, in: room) : [])
    }
  }

  // MARK: Roles

  private static let maximumRoles = 20

  package func roles(of id: RoomID, as caller: Caller) async throws -> [RoomRole] {
    try await view(id, as: caller, .read).room.roles
  }

  package func createRole(
    name: String, permissions: Permissions, in id: RoomID, by caller: Caller
  ) async throws -> RoomRole {
    try await database.write { transaction in
      let (room, standing) = try self.require(
        .manage, caller, try await self.directory.readForUpdate(id, in: transaction))
      guard RuleEngine.mayHandle(permissions, by: caller, standing, in: room) else {
        throw AppError(.forbidden)
      }
      guard room.roles.count < Self.maximumRoles else { throw AppError(.tooManyRoles) }
      let role = RoomRole(id: .make(), name: name, permissions: permissions)
      try await RoomPeopleStore.put(role, in: id, transaction)
      try await self.bump(id, in: transaction)
      return role
    }
  }

  /// Changes a role; nil leaves a property as it is. The change applies at once to everyone who has the role.
  package func updateRole(
    _ roleID: RoleID, name: String?, permissions: Permissions?, in id: RoomID, by caller: Caller
  ) async throws -> RoomRole {
    try await database.write(.essential) { transaction in
      let (room, standing) = try self.require(
        .manage, caller, try await self.directory.readForUpdate(id, in: transaction))
      guard let old = room.role(roleID) else { throw AppError(.roleNotFound) }
      let new = RoomRole(
        id: roleID, name: name ?? old.name, permissions: permissions ?? old.permissions)
      guard
        [old.permissions, new.permissions].allSatisfy({
          RuleEngine.mayHandle($0, by: caller, standing, in: room)
        })
      else { throw AppError(.forbidden) }
      if new != old {
        try await RoomPeopleStore.put(new, in: id, transaction)
        try await self.bump(id, in: transaction)
      }
      return new
    }
  }

  package func removeRole(_ roleID: RoleID, from id: RoomID, by caller: Caller) async throws {
    try await database.write(.essential) { transaction in
      let (room, standing) = try self.require(
        .manage, caller, try await self.directory.readForUpdate(id, in: transaction))
      guard let old = room.role(roleID) else { throw AppError(.roleNotFound) }
      guard RuleEngine.mayHandle(old.permissions, by: caller, standing, in: room) else {
        throw AppError(.forbidden)
      }
      guard !room.people.all.contains(where: { $0.roleID == roleID }) else {
        throw AppError(.roleInUse)
      }
      try await RoomPeopleStore.removeRole(roleID, from: id, transaction)
      try await self.bump(id, in: transaction)
    }
  }

  // MARK: Invitations

  /// The invitation of a person who is named in a room and has not answered.
  package struct PersonInvitation: Sendable {
    package let id: UUID
    package let room: Room
    package let permissions: Permissions
  }

  /// Returns the caller's unanswered invitations as a person, in rooms above `after`, by ascending room id; at most
  /// `limit`.
  package func personInvitations(
    of caller: Caller, after: RoomID, limit: Int
  ) async throws -> [PersonInvitation] {
    try await database.read { transaction in
      var invitations: [PersonInvitation] = []
      var after = after
      // A room may be of a kind that this release does not know. More are read then, so that the page is full.
      while invitations.count < limit {
        let ids = try await RoomPeopleStore.roomIDs(
          of: caller.userID, isWaiting: true, after: after, limit: limit, in: transaction)
        let rooms = try await self.directory.read(ids, in: transaction)
        for id in ids where invitations.count < limit {
          guard let room = rooms[id], let person = room.people[caller.userID],
            let invitation = try await RoomPeopleStore.invitation(
              of: caller.userID, to: id, in: transaction)
          else { continue }
          invitations.append(
            PersonInvitation(
              id: invitation, room: room, permissions: room.permissions(ofRole: person.roleID)))
        }
        guard let last = ids.last, ids.count == limit else { break }
        after = last
      }
      return invitations
    }
  }

  /// Answers the caller's invitation as a person. Returns the room; nil if there is no such invitation.
  package func answerPersonInvitation(
    _ invitation: UUID, isAccepted: Bool, by caller: Caller
  ) async throws -> Room? {
    try await database.write { transaction in
      guard
        let id = try await RoomPeopleStore.room(
          ofInvitation: invitation, of: caller.userID, in: transaction),
        let room = try await self.directory.readForUpdate(id, in: transaction),
        // It may have been answered or withdrawn before the room was locked.
        try await RoomPeopleStore.room(
          ofInvitation: invitation, of: caller.userID, in: transaction) == id
      else { return nil }
      return try await self.answer(in: room, isAccepted: isAccepted, by: caller, transaction)
    }
  }

  /// Answers the invitation of a caller who is named in the room, in a transaction that has locked the room. Returns
  /// the room as it was before the answer, or nil if no such invitation waits for the caller.
  func answer(
    in room: Room, isAccepted: Bool, by caller: Caller, _ transaction: Transaction
  ) async throws -> Room? {
    guard var person = room.people[caller.userID], !person.isAccepted else { return nil }
    guard isAccepted else {
      try await exit(person, room, nil, by: caller, transaction)
      return room
    }
    person.isAccepted = true
    person.joinedAt = .now
    _ = try await enter(
      person, room, RoomEvent(.joined, subject: caller.userID), by: caller, transaction)
    try await RoomPeopleStore.noteAct(of: caller.userID, in: room.id, transaction)
    return room
  }
}
