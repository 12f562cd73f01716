import Basics
import TestSupport
import Testing

@testable import Chat

/// The people of a room, beside a plain dictionary.
@Suite struct RoomPeopleTests {
  private static func user(_ number: Int) -> UserID {
    // The low half decides about the bucket.
    UserID(UUID(high: 7, low: UInt64(number) &* 0x9E37_79B9_7F4A_7C15))
  }

  @Test(arguments: 1...10)
  func `it is a map, and a change leaves the original as it was`(seed: UInt64) {
    var random = SeededRandom(seed: seed)
    // Crosses several sizes, upwards and downwards.
    let range = [3, 70, 300, 1500][Int(seed) % 4]
    var people = RoomPeople.none
    var expected: [UserID: RoomPerson] = [:]
    for step in 0..<2000 {
      let before = people
      let old = expected
      let changes = (0..<(1 + Int(random.next() % 3))).map { _ in
        let user = Self.user(Int(random.next() % UInt64(range)))
        // More come than go at first, later more go.
        let comes = random.next() % 100 < (step < 1200 ? 70 : 25)
        let person = RoomPerson(
          userID: user, joinedAt: Timestamp(milliseconds: Int64(random.next() % 3)),
          isAccepted: random.next() % 2 == 0)
        return RoomPeople.Change(user, comes ? person : nil)
      }
      for change in changes { expected[change.userID] = change.person }
      people = people.with(changes)
      let touched = Set(changes.map(\.userID)).filter { old[$0] != expected[$0] }
      #expect(people.difference(from: before) == touched)
      #expect(before.difference(from: people) == touched)
      #expect(people.count == expected.count && before.count == old.count)
      if step % 200 == 0 {
        #expect(Dictionary(uniqueKeysWithValues: people.all.map { ($0.userID, $0) }) == expected)
        for number in 0..<range {
          let user = Self.user(number)
          #expect(people[user] == expected[user])
          #expect(before[user] == old[user])
        }
        #expect(RoomPeople(Array(expected.values)).difference(from: people).isEmpty)
      }
    }
  }

  @Test func `nobody is in it, and then nothing differs`() {
    #expect(RoomPeople.none[.make()] == nil && RoomPeople.none.isEmpty)
    #expect(RoomPeople.none.difference(from: .none).isEmpty)
    let person = RoomPerson(userID: .make(), joinedAt: .now, isAccepted: true)
    #expect(RoomPeople([person]).difference(from: .none) == [person.userID])
    #expect(RoomPeople([person]).with([.init(person.userID, nil)]).isEmpty)
    #expect(RoomPeople.none.with([.init(person.userID, nil)]).isEmpty)
  }
}
