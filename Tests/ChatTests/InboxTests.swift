import Access
import Basics
import Database
import TestSupport
import Testing

@testable import Chat

/// The rooms that a socket follows by default, as one statement per subject finds them, compared with the rules of
/// each room.
@Suite struct InboxTests {
  private static let people = (1...3).map { UUID(high: 9, low: UInt64($0)) }
  private static let entities = (1...3).map { UUID(high: 7, low: UInt64($0)) }

  @Test(arguments: DatabaseKind.allCases)
  func `the rooms that are listed are those that the rules let read`(
    kind: DatabaseKind
  ) async throws {
    try await TestDatabase.with(kind, ChatWorld.migrations) { database in
      let world = ChatWorld(database)
      var random = SeededRandom(seed: 1)
      func pick(_ count: Int) -> Int { Int(random.next() % UInt64(count)) }
      var ids: [RoomID] = []
      for number in 0..<120 {
        let owner = Caller.foreign(
          pick(3) == 0 ? Self.people[0] : UUID(high: 1, low: 1), level: 100)
        let room = try await world.rooms.create(
          Rooms.NewRoom(
            name: "r\(number)", kind: pick(3) == 0 ? .dialog : .group, levelAdmin: 9,
            isByInvitation: pick(4) == 0), by: owner
        ).room
        ids.append(room.id)
        for _ in 0..<pick(6) {
          let subject = (Self.people + Self.entities)[pick(6)]
          let letters = Permissions(rawValue: UInt8(1 + pick(15)))
          // Some rules are refused, such as a third person in a dialog. Only the stored ones count.
          _ = try? await world.rooms.setRule(
            subject, permissions: letters, level: 0, in: room.id, by: owner)
        }
        if pick(10) == 0 { try await world.rooms.delete(room.id, by: owner) }
      }
      for person in Self.people {
        for chosen in 0..<8 {
          let caller = Caller.foreign(
            person,
            of: Self.entities.indices.filter { chosen >> $0 & 1 == 1 }.map { Self.entities[$0] })
          var expected: [RoomID] = []
          for id in ids {
            guard let room = try await world.rooms.directory.reload(id) else { continue }
            if RuleEngine.standing(of: caller, in: room).permissions.contains(.read) {
              expected.append(id)
            }
          }
          let listed = try await world.rooms.latestReadableRooms(for: caller)
          #expect(listed.ids == expected)
          #expect(!listed.hasMore)
          // If there are too many rules for one statement, reading by pages gives the same result.
          let pages = try await world.rooms.readableRoomsByPages(for: caller)
          #expect(pages.map(\.room) == expected)
        }
      }
    }
  }
}
