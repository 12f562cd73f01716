internal import Access
internal import Basics
internal import Live

/// The sockets of one event loop, by number, by user and by what rules may name. A value, without a clock or a loop.
struct ListenerIndex {
  private var listeners: [UInt64: any RoomListener] = [:]
  /// The connections of each user's listeners, oldest first.
  private var byUser: [UserID: [Hub.Connection]] = [:]
  private var byEntity: [UUID: Set<UInt64>] = [:]

  var isEmpty: Bool { listeners.isEmpty }
  /// All listeners, in no particular order.
  var all: [any RoomListener] { Array(listeners.values) }

  subscript(number: UInt64) -> (any RoomListener)? { listeners[number] }

  var userCount: Int { byUser.count }
  /// The users that listeners belong to, each once, in no particular order.
  var users: Dictionary<UserID, [Hub.Connection]>.Keys { byUser.keys }

  /// The numbers of a user's listeners.
  func of(_ user: UserID) -> Set<UInt64> { Set(connections(of: user).map(\.number)) }

  /// The connections of a user's listeners, oldest first.
  func connections(of user: UserID) -> [Hub.Connection] { byUser[user] ?? [] }

  /// The numbers of the listeners that a rule with this subject applies to: one person's, or those of everyone in an
  /// entity.
  func affected(by subject: UUID) -> Set<UInt64> {
    of(UserID(subject)).union(byEntity[subject] ?? [])
  }

  mutating func add(_ number: UInt64, _ listener: any RoomListener, _ caller: Caller) {
    listeners[number] = listener
    let behind = connections(of: caller.userID).prefix { $0.number < number }.count
    byUser[caller.userID, default: []].insert(listener.connection, at: behind)
    for entity in caller.entities { byEntity[entity, default: []].insert(number) }
  }

  /// Files the listener under another caller than it was added with.
  mutating func move(_ number: UInt64, from old: Caller, to new: Caller) {
    guard let listener = listeners[number] else { return }
    unlist(number, old)
    add(number, listener, new)
  }

  /// Returns false if the listener was not there.
  mutating func remove(_ number: UInt64, _ caller: Caller?) -> Bool {
    guard listeners.removeValue(forKey: number) != nil else { return false }
    if let caller { unlist(number, caller) }
    return true
  }

  private mutating func unlist(_ number: UInt64, _ caller: Caller) {
    byUser[caller.userID]?.removeAll { $0.number == number }
    if byUser[caller.userID]?.isEmpty == true { byUser[caller.userID] = nil }
    for entity in caller.entities {
      byEntity[entity]?.remove(number)
      if byEntity[entity]?.isEmpty == true { byEntity[entity] = nil }
    }
  }
}
