import Basics
import Database
import TestSupport
import Testing

@testable import Chat

/// What a node keeps of rooms with many people.
@Suite struct RoomDirectoryTests {
  private static func room(_ id: Int64, people count: Int, version: Int64 = 1) -> Room {
    let people = (0..<count).map {
      RoomPerson(
        userID: UserID(UUID(high: 1, low: UInt64($0))), joinedAt: Timestamp(milliseconds: 0),
        isAccepted: true)
    }
    return Room(
      id: RoomID(id), Room.Properties(name: "r", createdAt: Timestamp(milliseconds: 0)),
      people: RoomPeople(people), accessVersion: version)
  }

  @Test func `rooms are dropped when their people together become too many`() async throws {
    try await TestDatabase.with(.sqlite, ChatWorld.migrations) { database in
      let directory = RoomDirectory(database: database)
      let people = Self.room(0, people: 10_000).people
      func put(_ ids: ClosedRange<Int64>, version: Int64 = 1) {
        for id in ids {
          directory.put(
            Room(
              id: RoomID(id), Room.Properties(name: "r", createdAt: Timestamp(milliseconds: 0)),
              people: people, accessVersion: version))
        }
      }
      put(1...200)
      #expect((1...200).allSatisfy { directory.cached(RoomID($0)) != nil })
      // The same room again, in a newer version, does not count twice.
      for version in 2...300 as ClosedRange<Int64> { put(200...200, version: version) }
      #expect(directory.cached(RoomID(1)) != nil && directory.cached(RoomID(200)) != nil)
      // One more is one too many. Only what was kept meanwhile stays.
      put(201...201)
      #expect((1...201).count { directory.cached(RoomID($0)) != nil } <= 200)
      put(202...210)
      #expect((202...210).allSatisfy { directory.cached(RoomID($0)) != nil })
    }
  }

  @Test func `a room with many people is read again only where it has changed`() async throws {
    try await TestDatabase.with(.sqlite, ChatWorld.migrations) { database in
      let world = ChatWorld(database)
      let room = try await world.room()
      let directory = world.rooms.directory
      try await database.write { transaction in
        let version = try await RoomStore.raiseAccessVersion(room.id, in: transaction)
        for number in 0..<150 {
          try await RoomPeopleStore.put(
            RoomPerson(
              userID: UserID(UUID(high: 1, low: UInt64(number))), joinedAt: .now, isAccepted: true),
            in: room.id, version: version, transaction)
        }
      }
      let before = try #require(try await directory.reload(room.id))
      #expect(before.people.count == 150)
      try await database.write { transaction in
        let version = try await RoomStore.raiseAccessVersion(room.id, in: transaction)
        try await RoomPeopleStore.remove(
          UserID(UUID(high: 1, low: 7)), from: room.id, version: version, transaction)
        // As only somebody who reads everything would notice.
        try await transaction.execute(
          "DELETE FROM room_people WHERE user_id = $1", [.id(UserID(UUID(high: 1, low: 9)))])
      }
      directory.note(room.id, version: before.accessVersion + 1)
      let after = try #require(try await directory.room(room.id, atLeast: 3))
      #expect(after.people.difference(from: before.people) == [UserID(UUID(high: 1, low: 7))])
      // A database that went back is read whole.
      try await database.write { transaction in
        try await transaction.execute(
          "UPDATE room_heads SET access_version = 1 WHERE room_id = $1", [.room(room.id)])
      }
      let older = try #require(try await directory.reload(room.id))
      #expect(older.people.count == 148 && older.accessVersion == 1)
    }
  }
}
