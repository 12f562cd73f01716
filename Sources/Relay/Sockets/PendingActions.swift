/// The remaining actions of a socket, in order, if there are so many that they are spread over several turns. A value,
/// kept small because every socket has one.
struct PendingActions {
  private var actions: [SocketAction] = []
  /// How many of `actions` are done or handed out.
  private var done = 0
  /// Whether the result of `next` is being performed.
  private var isCarryingOut = false

  /// Returns the amount of work in these actions. An action that names many rooms counts once for each.
  static func size(of actions: [SocketAction]) -> Int { actions.reduce(0) { $0 + $1.size } }

  var isEmpty: Bool { done == actions.count && !isCarryingOut }

  mutating func append(_ more: [SocketAction]) { actions += more }

  mutating func removeAll() { self = PendingActions() }

  /// Removes and returns the next actions, of at most `limit` in total size. They count as unfinished until
  /// `performed` is called.
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

  /// Notes that the result of `next` has been performed. After the last one, releases the memory.
  mutating func performed() {
    isCarryingOut = false
    if isEmpty { removeAll() }
  }
}

extension SocketAction {
  /// The number of rooms that the action names, if each of them takes time; at least 1.
  fileprivate var size: Int {
    switch self {
    case .attach(let ids, _), .leave(let ids, _): max(1, ids.count)
    default: 1
    }
  }

  /// Splits off a part of at most this size. `rest` is nil if nothing remains.
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
