package import Access
package import Basics
internal import Database

/// Rules that wait for an answer.
extension Rooms {
  /// A rule that waits for an answer.
  package struct Invitation: Sendable {
    package let room: Room
    package let rule: RoomRule
    /// Whether the rule is for the caller; false if it is for an entity of the caller.
    package let isForUser: Bool
  }

  /// Returns the invitations that the caller may answer, by ascending room and subject, after `place` in that order;
  /// `limit` + 1 of them if there are more than `limit`.
  package func invitations(
    of caller: Caller, after place: (room: RoomID, subject: UUID)?, limit: Int
  ) async throws -> [Invitation] {
    let subjects = Set(
      [caller.userID.uuid] + caller.entities.filter { RuleEngine.mayAnswer(for: $0, caller) })
    return try await database.read { transaction in
      var found: [Invitation] = []
      // The room of `place` may have more.
      var after = RoomID((place?.room.value ?? 1) - 1)
      while found.count <= limit {
        let (ids, end) = try await Self.step(through: subjects, limit: limit) {
          try await RoomStore.waitingRoomIDs(
            subject: $0, after: after, limit: limit + 1, in: transaction)
        }
        for id in ids where found.count <= limit {
          guard let room = try await self.directory.read(id, in: transaction) else { continue }
          let waiting = RuleEngine.invitations(of: caller, to: room)
            .sorted { $0.subject.description < $1.subject.description }
          for rule in waiting where found.count <= limit {
            if let place, id == place.room,
              rule.subject.description <= place.subject.description
            {
              continue
            }
            found.append(
              Invitation(room: room, rule: rule, isForUser: rule.subject == caller.userID.uuid))
          }
        }
        guard let end else { break }
        after = end
      }
      return found
    }
  }

  /// Answers an invitation for the caller or for an entity. An accepted rule counts from then on; a declined one is
  /// deleted. If `forEntity` is false and the caller is named in the room and has not answered, this answers that
  /// instead, and returns the person's letters as a rule.
  package func answerInvitation(
    to id: RoomID, isAccepted: Bool, forEntity: Bool, by caller: Caller
  ) async throws -> RoomRule {
    try await database.write { transaction in
      guard let room = try await self.directory.readForUpdate(id, in: transaction) else {
        throw AppError(.roomNotFound)
      }
      if !forEntity,
        try await self.answer(in: room, isAccepted: isAccepted, by: caller, transaction) != nil
      {
        return RoomRule(
          subject: caller.userID.uuid,
          permissions: room.permissions(ofRole: room.people[caller.userID]?.roleID), level: 0,
          isAccepted: isAccepted)
      }
      let waiting = room.rules.filter { rule in
        !rule.isAccepted
          && (forEntity
            ? room.type == .group && caller.isOf(rule.subject) : rule.subject == caller.userID.uuid)
      }
      guard let first = waiting.first else {
        let isMember = RuleEngine.standing(of: caller, in: room).isMember
        throw AppError(isMember ? .invitationNotFound : .roomNotFound)
      }
      let rule =
        forEntity
        ? waiting.first { RuleEngine.mayAnswer(for: $0.subject, caller) } : first
      guard let rule else {
        throw AppError(
          .forbidden, "Answering for an entity needs a level of 100, or to be its admin here.")
      }
      var answered = rule
      answered.isAccepted = isAccepted
      if isAccepted {
        try await RoomStore.put(answered, in: id, transaction)
        if !forEntity, caller.sessionID != nil {
          try await RoomPeopleStore.noteAct(of: caller.userID, in: id, transaction)
        }
      } else {
        try await RoomStore.removeRule(rule.subject, from: id, transaction)
      }
      try await self.bump(id, in: transaction)
      return answered
    }
  }
}
