internal import Basics
internal import Events

/// What a node tells the others about the people who have sockets on it: once a second those whose status has changed.
struct PresenceReport: Equatable {
  let node: NodeID
  /// Counts the reports of the node, so that the others notice if one is lost.
  let number: UInt64
  /// Whether this report and those that follow name everyone, so that nothing earlier counts.
  let isBeginning: Bool
  let people: [PersonPresence]

  static let kind = "presence"
  /// The most people in a report. Everything that nodes tell each other has limits.
  static let maximumPeople = 400

  var signal: Signal {
    var writer = WireWriter()
    writer.integer(node.value)
    writer.integer(number)
    writer.byte(isBeginning ? 1 : 0)
    for person in people {
      writer.uuid(person.user.uuid)
      writer.byte(person.state.status.rawValue)
      writer.integer(person.state.lastSeenAt?.milliseconds ?? 0)
    }
    return Signal(to: .everyone, kind: Self.kind, content: writer.bytes)
  }

  init(node: NodeID, number: UInt64, isBeginning: Bool, people: [PersonPresence]) {
    self.node = node
    self.number = number
    self.isBeginning = isBeginning
    self.people = people
  }

  /// Nil if the content is not of this kind.
  init?(_ signal: Signal) {
    guard signal.kind == Self.kind else { return nil }
    var reader = WireReader(signal.content[...])
    guard let node = reader.integer(UInt64.self), let number = reader.integer(UInt64.self),
      let isBeginning = reader.byte()
    else { return nil }
    var people: [PersonPresence] = []
    while !reader.isAtEnd {
      guard let user = reader.uuid(), let status = reader.byte().flatMap(PresenceStatus.init),
        let seen = reader.integer(Int64.self)
      else { return nil }
      let state = PresenceState(
        status, lastSeenAt: seen == 0 ? nil : Timestamp(milliseconds: seen))
      people.append(PersonPresence(UserID(user), state))
    }
    self.init(
      node: NodeID(node), number: number, isBeginning: isBeginning == 1, people: people)
  }
}

/// Asks a node to name everyone who has sockets on it, because a report of it was missed.
struct PresenceRequest: Equatable {
  let node: NodeID

  static let kind = "presence_wanted"

  init(to node: NodeID) { self.node = node }

  var signal: Signal {
    var writer = WireWriter()
    writer.integer(node.value)
    return Signal(to: .everyone, kind: Self.kind, content: writer.bytes)
  }

  /// Nil if the content is not of this kind.
  init?(_ signal: Signal) {
    var reader = WireReader(signal.content[...])
    guard signal.kind == Self.kind, let node = reader.integer(UInt64.self) else { return nil }
    self.node = NodeID(node)
  }
}
