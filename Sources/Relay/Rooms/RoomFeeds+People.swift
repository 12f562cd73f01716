internal import Access
internal import Basics
internal import Chat

/// What listeners are told because of the person they belong to: changed memberships, rooms that the person may read
/// now, and invitations.
extension RoomFeeds {
  func affiliationsChanged(_ user: UserID, _ version: Int64) {
    affiliationsAnnounced(user, listeners.of(user))
    guard !listeners.of(user).isEmpty else { return }
    if let known = services.memberships.current(user), known.version >= version {
      notify(user, known)
      return
    }
    reader.accounts.read(user, version: version)
  }

  func notify(_ user: UserID, _ affiliations: Affiliations) {
    for number in listeners.of(user).sorted() {
      listeners[number]?.affiliationsChanged(affiliations)
    }
  }

  /// Tells those who may answer an invitation that it waits. This is only a signal: a client that misses it finds the
  /// invitation in the list.
  func invited(_ subject: UUID, to id: RoomID, _ version: Int64) {
    let numbers = listeners.affected(by: subject)
    guard !numbers.isEmpty else { return }
    // Unowned: feeds live as long as their loop.
    reader.backend.readAgain([id: version], isUrgent: false) { [unowned self] result in
      switch result {
      case .success(let found): if let room = found[id] { notify(numbers, of: subject, in: room) }
      case .failure(let error):
        services.log.warning(
          "room_not_read", ["room_id": .init(id), "cause": .init("\(error)")])
      }
    }
  }

  private func notify(_ numbers: Set<UInt64>, of subject: UUID, in room: Room) {
    for number in numbers.sorted() {
      guard let listener = listeners[number], let caller = listener.caller else { continue }
      let rule = RuleEngine.invitations(of: caller, to: room).first { $0.subject == subject }
      if let rule {
        listener.invited(to: room, rule)
      } else if let person = room.people[caller.userID], !person.isAccepted {
        listener.invited(
          to: room,
          RoomRule(
            subject: subject, permissions: room.permissions(ofRole: person.roleID), level: 0,
            isAccepted: false))
      }
    }
  }

  /// Announces a room to those who may read it now. `users` are those whose standing may have changed; nil means that
  /// it may be anybody's.
  func announceReadable(_ room: Room, to users: Set<UserID>?) {
    for number in candidates(of: room, users).sorted() {
      guard let listener = listeners[number], let caller = listener.caller,
        !isSubscribed(listener, to: room.id),
        RuleEngine.standing(of: caller, in: room).permissions.contains(.read)
      else { continue }
      listener.receive(.becameReadable(room.id))
    }
  }

  /// The listeners that something may admit to the room.
  private func candidates(of room: Room, _ users: Set<UserID>?) -> Set<UInt64> {
    if let users { return users.reduce(into: []) { $0.formUnion(listeners.of($1)) } }
    var numbers = room.ownerUser.map { listeners.of($0) } ?? []
    for rule in room.rules where rule.isAccepted {
      numbers.formUnion(listeners.affected(by: rule.subject))
    }
    if room.kind == .channel, let team = room.properties.team {
      numbers.formUnion(listeners.affected(by: team.uuid))
    }
    if room.people.isEmpty { return numbers }
    if room.people.count < listeners.userCount {
      for person in room.people.all { numbers.formUnion(listeners.of(person.userID)) }
    } else {
      for user in listeners.users where room.people[user] != nil {
        numbers.formUnion(listeners.of(user))
      }
    }
    return numbers
  }
}
