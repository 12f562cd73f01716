/// What a socket has still to do, in order, where it is so much that it takes turns. A value, and a small one:
/// every socket has it.
struct PendingActions {
  private var actions: [SocketAction] = []
  /// So many of `actions` are done, or handed out.
  private var done = 0
  /// What `next` gave is being carried out.
  private var isCarryingOut = false

  /// How much there is to do: an action that names many rooms counts as many.
  static func size(of actions: [SocketAction]) -> Int { actions.reduce(0) { $0 + $1.size } }

  var isEmpty: Bool { done == actions.count && !isCarryingOut }

  mutating func append(_ more: [SocketAction]) { actions += more }

  mutating func removeAll() { self = PendingActions() }

  /// The next of them, together at most `limit` in size. There count as some until `performed` is called.
  mutating func next(_ limit: Int) -> [SocketAction] {
    isCarryingOut = true
    var next: [SocketAction] = []
    var left = limit
    while left > 0, done < actions.count {
      let (part, rest) = actions[done].split(at: left)
      next.append(part)
      left -= part.size
      if let rest { actions[done] = rest } else { done += 1 }
    }
    return next
  }

  /// What `next` gave is done. With the last of it the memory is given back.
  mutating func performed() {
    isCarryingOut = false
    if isEmpty { removeAll() }
  }
}

extension SocketAction {
  /// How many rooms it names, where it names rooms that take time each; at least one.
  fileprivate var size: Int {
    switch self {
    case .attach(let ids, _), .leave(let ids, _): max(1, ids.count)
    default: 1
    }
  }

  /// A part of at most this size, and the rest where there is any.
  fileprivate func split(at size: Int) -> (part: SocketAction, rest: SocketAction?) {
    guard self.size > size else { return (self, nil) }
    switch self {
    case .attach(let ids, let purpose):
      return (.attach(ids.prefix(size), purpose), .attach(ids.dropFirst(size), purpose))
    case .leave(let ids, let clientID):
      return (
        .leave(ids.prefix(size), clientID: clientID),
        .leave(ids.dropFirst(size), clientID: clientID)
      )
    default: return (self, nil)
    }
  }
}
