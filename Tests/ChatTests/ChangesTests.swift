import Accounts
import Basics
import Database
import TestSupport
import Testing

@testable import Chat

/// Reading what changed since a position, as nodes do when they compare themselves with the database.
@Suite struct ChangesTests {
  private struct Changes: Equatable {
    let ended: [SessionID]
    let affiliations: [UserID: Int64]
    let rooms: [RoomID: Int64]

    static let none = Changes(ended: [], affiliations: [:], rooms: [:])
  }

  private func changes(
    since position: ChangePosition, _ database: any SQLDatabase
  ) async throws -> (Changes, ChangePosition) {
    try await database.read { transaction in
      let accounts = try await AccountChanges.since(position, in: transaction)
      return (
        Changes(
          ended: accounts.ended, affiliations: accounts.affiliations,
          rooms: try await RoomChanges.since(position, in: transaction)),
        try await ChangePosition.next(in: transaction)
      )
    }
  }

  @Test(arguments: DatabaseKind.allCases)
  func `a change is found once its commit shows, and not for ever`(
    kind: DatabaseKind
  ) async throws {
    try await TestDatabase.with(kind, ChatWorld.migrations) { database in
      let world = ChatWorld(database)
      let (_, before) = try await changes(since: .start, database)
      let room = try await world.room()
      let (member, _) = try await world.makeMember()
      var (found, position) = try await changes(since: before, database)
      #expect(found.rooms == [room.id: room.accessVersion])
      #expect(found.affiliations.keys.contains(member))
      // On Postgres rows are returned again while any older transaction of the cluster is open, for example another
      // test's.
      for _ in 0..<500 where found != .none {
        try await Task.sleep(for: .milliseconds(20))
        (found, position) = try await changes(since: position, database)
      }
      #expect(found == .none)
    }
  }

  /// A dump keeps the transaction ids of its cluster. A younger cluster reaches them only after years; until then
  /// every comparison would return these rows.
  @Test func `positions of another cluster's tell of no change`() async throws {
    try await TestDatabase.with(.postgres, ChatWorld.migrations) { database in
      let world = ChatWorld(database)
      let room = try await world.room()
      _ = try await world.makeMember()
      try await database.write { transaction in
        let statements: [SQL] = [
          "ALTER TABLE room_heads DISABLE TRIGGER room_heads_changed",
          "UPDATE room_heads SET changed_in = 1000000000000",
          "ALTER TABLE room_heads ENABLE TRIGGER room_heads_changed",
          "ALTER TABLE affiliation_versions DISABLE TRIGGER affiliations_changed",
          "UPDATE affiliation_versions SET changed_in = 1000000000000",
          "ALTER TABLE affiliation_versions ENABLE TRIGGER affiliations_changed",
        ]
        for statement in statements { try await transaction.execute(statement) }
      }
      let (found, position) = try await changes(since: .start, database)
      #expect(found == .none)
      // A change of such a row is found like any other.
      try await database.write { transaction in
        try await transaction.execute("UPDATE room_heads SET access_version = access_version + 1")
      }
      let (later, _) = try await changes(since: position, database)
      #expect(later.rooms == [room.id: room.accessVersion + 1])
    }
  }
}
