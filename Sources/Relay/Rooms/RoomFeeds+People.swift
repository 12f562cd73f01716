internal import Access
internal import Basics
internal import Chat

/// What listeners are told because of the person they belong to: changed memberships, rooms that the person may read
/// now, and invitations.
extension RoomFeeds {
  func affiliationsChanged(_ user: UserID, _ version: Int64) {
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
      guard let listener = listeners[number], let caller = listener.caller,
        let rule = RuleEngine.invitations(of: caller, to: room).first(where: {
          $0.subject == subject
        })
      else { continue }
      listener.invited(to: room, rule)
    }
  }

  /// Announces a room to those who may read it now.
  func announceReadable(_ room: Room) {
    var numbers = listeners.of(room.ownerUser)
    for rule in room.rules where rule.isAccepted {
      numbers.formUnion(listeners.affected(by: rule.subject))
    }
    for number in numbers.sorted() {
      guard let listener = listeners[number], let caller = listener.caller,
        !isSubscribed(listener, to: room.id),
        RuleEngine.standing(of: caller, in: room).permissions.contains(.read)
      else { continue }
      listener.receive(.becameReadable(room.id))
    }
  }
}
