internal import Basics

/// What a socket has still to do, in order, where it is so much that it takes turns. A value.
struct PendingActions {
  private var actions = Queue<SocketAction>()
  /// The rest of an action that was too much for one step.
  private var begun: SocketAction?
  /// What `next` gave is being carried out.
  private var isCarryingOut = false

  /// How much there is to do: an action that names many rooms counts as many.
  static func size(of actions: [SocketAction]) -> Int { actions.reduce(0) { $0 + $1.size } }

  var isEmpty: Bool { actions.isEmpty && begun == nil && !isCarryingOut }

  mutating func append(_ more: [SocketAction]) { for action in more { actions.append(action) } }

  mutating func removeAll() { self = PendingActions() }

  /// The next of them, so many as `size` counts. `isEmpty` is not before `carriedOut` is called.
  mutating func next(_ limit: Int) -> [SocketAction] {
    isCarryingOut = true
    var next: [SocketAction] = []
    var left = limit
    while left > 0, let action = takeFirst() {
      let (part, rest) = action.split(at: left)
      next.append(part)
      left -= part.size
      begun = rest
    }
    return next
  }

  /// What `next` gave is done. With the last of it the memory is given back: there are many sockets.
  mutating func carriedOut() {
    isCarryingOut = false
    if isEmpty { removeAll() }
  }

  private mutating func takeFirst() -> SocketAction? {
    if let action = begun {
      begun = nil
      return action
    }
    return actions.popFirst()
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
