package import Basics

/// A person who is named in a room.
package struct RoomPerson: Sendable, Equatable {
  package let userID: UserID
  /// Nil means the letters of the room's `default_permissions`.
  package var roleID: RoleID?
  package var joinedAt: Timestamp
  /// False while the person has not answered the invitation.
  package var isAccepted: Bool

  package init(userID: UserID, roleID: RoleID? = nil, joinedAt: Timestamp, isAccepted: Bool) {
    self.userID = userID
    self.roleID = roleID
    self.joinedAt = joinedAt
    self.isAccepted = isAccepted
  }
}

/// The people of a room: an immutable map by user.
///
/// A changed copy shares almost all of its memory with the original. So changing one of 10,000 people copies only about
/// a hundredth of them, and the differences of two versions are found without comparing everyone.
package struct RoomPeople: Sendable {
  /// Some of the people, in the order of their ids.
  private final class Bucket: Sendable {
    let people: [RoomPerson]
    init(_ people: [RoomPerson]) { self.people = people }

    static let empty = Bucket([])
  }

  /// A power of two of them. A person's bucket follows from the low bits of the id, which are random.
  private var buckets: [Bucket]
  /// The number of people, including those who have not accepted.
  package private(set) var count: Int

  package static let none = RoomPeople([])

  /// How many people a bucket has on average before the number of buckets grows.
  private static let perBucket = 64
  private static let maximumBuckets = 256

  package init(_ people: [RoomPerson]) {
    let number = Self.bucketCount(for: people.count)
    var parts = [[RoomPerson]](repeating: [], count: number)
    for person in people { parts[Self.index(person.userID, number)].append(person) }
    buckets = parts.map { part in
      part.isEmpty ? .empty : Bucket(part.sorted { $0.userID.uuid < $1.userID.uuid })
    }
    count = people.count
  }

  private static func bucketCount(for people: Int) -> Int {
    var count = 1
    while count < maximumBuckets, people > count * perBucket { count *= 2 }
    return count
  }

  private static func index(_ user: UserID, _ count: Int) -> Int {
    Int(truncatingIfNeeded: user.uuid.low) & (count - 1)
  }

  package var isEmpty: Bool { count == 0 }

  /// Everyone, in no particular order.
  package var all: [RoomPerson] { buckets.flatMap(\.people) }

  package subscript(user: UserID) -> RoomPerson? {
    if count == 0 { return nil }
    let people = buckets[Self.index(user, buckets.count)].people
    let position = Self.position(of: user, in: people)
    return position < people.count && people[position].userID == user ? people[position] : nil
  }

  /// The position of the first person whose id is not below this one.
  private static func position(of user: UserID, in people: [RoomPerson]) -> Int {
    var low = 0
    var high = people.count
    while low < high {
      let middle = (low + high) / 2
      if people[middle].userID.uuid < user.uuid { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// One person who has come or changed, or who is gone.
  package struct Change: Sendable, Equatable {
    package let userID: UserID
    /// Nil if the person is gone.
    package let person: RoomPerson?

    package init(_ userID: UserID, _ person: RoomPerson?) {
      self.userID = userID
      self.person = person
    }
  }

  /// Returns a copy with these changes.
  package func with(_ changes: [Change]) -> RoomPeople {
    if changes.isEmpty { return self }
    var copy = self
    for change in changes { copy.apply(change) }
    return copy.hasFittingBuckets ? copy : RoomPeople(copy.all)
  }

  /// Whether the number of buckets fits the number of people. It is lowered only once the buckets are at most a quarter
  /// full, so that a person who comes and goes does not change it each time.
  private var hasFittingBuckets: Bool {
    let fitting = Self.bucketCount(for: count)
    return fitting == buckets.count
      || (fitting < buckets.count && count * 4 > buckets.count * Self.perBucket)
  }

  private mutating func apply(_ change: Change) {
    let index = Self.index(change.userID, buckets.count)
    var people = buckets[index].people
    let position = Self.position(of: change.userID, in: people)
    let isThere = position < people.count && people[position].userID == change.userID
    switch (change.person, isThere) {
    case (let person?, true): people[position] = person
    case (let person?, false):
      people.insert(person, at: position)
      count += 1
    case (nil, true):
      people.remove(at: position)
      count -= 1
    case (nil, false): return
    }
    buckets[index] = Bucket(people)
  }

  /// Returns the users who are in only one of the two versions, or differ in them.
  package func difference(from old: RoomPeople) -> Set<UserID> {
    var users: Set<UserID> = []
    guard buckets.count == old.buckets.count else {
      for person in all where old[person.userID] != person { users.insert(person.userID) }
      for person in old.all where self[person.userID] == nil { users.insert(person.userID) }
      return users
    }
    for (new, old) in zip(buckets, old.buckets) where new !== old {
      var before: [UserID: RoomPerson] = [:]
      for person in old.people { before[person.userID] = person }
      for person in new.people where before.removeValue(forKey: person.userID) != person {
        users.insert(person.userID)
      }
      users.formUnion(before.keys)
    }
    return users
  }
}
