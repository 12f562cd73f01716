internal import Accounts
package import Basics
internal import Database
internal import Words

/// A room as platform admins see it: nothing of what is said there.
package struct RoomSummary: Sendable {
  package let id: RoomID
  package let kind: RoomKind
  /// For a dialog that was made for two, both people's names.
  package let name: String
  package let team: TeamID?
  package let owner: UserID?
  /// How many people are named in the room, or for a channel, are in the team.
  package let peopleCount: Int64
  /// Deleted ones too.
  package let messageCount: Int64
  /// The time of the last message, or of the room's creation if there is none.
  package let lastActivityAt: Timestamp
  package let createdAt: Timestamp
}

enum RoomSummaries {
  private static let roomsPerRead = 500

  /// Returns rooms below an id, the newest first; `limit` + 1 if there are more than `limit`.
  static func list(
    _ query: String?, below id: RoomID, limit: Int, in transaction: Transaction
  ) async throws -> [RoomSummary] {
    let pattern = query.flatMap { SearchPattern($0) }
    if query != nil, pattern == nil { return [] }
    var found: [RoomSummary] = []
    var below = id
    let step = pattern == nil ? limit + 1 : roomsPerRead
    while true {
      let rooms = try await read(below: below, limit: step, in: transaction)
      for room in rooms.summaries where found.count <= limit {
        if pattern?.matches(SearchWords.split(room.name)) ?? true { found.append(room) }
      }
      guard let last = rooms.last, rooms.count == step, found.count <= limit else { return found }
      below = last
    }
  }

  /// Reads rooms below an id, the newest first. Those of a kind that this release does not know are left out of the
  /// summaries, but count.
  private static func read(
    below id: RoomID, limit: Int, in transaction: Transaction
  ) async throws -> (summaries: [RoomSummary], count: Int, last: RoomID?) {
    let rows = try await transaction.query(
      """
      SELECT r.id, r.type, r.name, r.team_id, r.owner_user, r.dialog_key, r.created_at,
        h.last_seq - h.non_messages, h.message_ts,
        (SELECT count(*) FROM room_people p WHERE p.room_id = r.id AND p.state <> 0)
      FROM rooms r JOIN room_heads h ON h.room_id = r.id
      WHERE r.id < $1 AND r.deleted_at IS NULL ORDER BY r.id DESC LIMIT $2
      """, [.room(id), .integer(Int64(limit))])
    let pairs = try rows.map { row in
      try row.optional(5, row.blob).flatMap { DialogKey(bytes: $0)?.pair }
    }
    let names = try await People.names(
      of: Array(Set(pairs.compactMap(\.self).flatMap { [$0.low, $0.high] })), in: transaction)
    let teams: [TeamID] = try rows.compactMap { row in try row.optional(3) { try row.id($0) } }
    let members = try await People.memberCounts(of: Array(Set(teams)), in: transaction)
    let summaries = try zip(rows, pairs).compactMap { row, pair -> RoomSummary? in
      guard let kind = RoomKind(code: try row.integer(1)) else { return nil }
      let team: TeamID? = try row.optional(3) { try row.id($0) }
      let name = try row.text(2)
      return RoomSummary(
        id: try row.room(0), kind: kind,
        name: pair.map { both in
          [both.low, both.high].compactMap { names[$0] }.joined(separator: ", ")
        } ?? name,
        team: team, owner: try row.userOrNobody(4),
        peopleCount: kind == .channel
          ? team.flatMap { members[$0] } ?? 0 : try row.integer(9),
        messageCount: try row.integer(7), lastActivityAt: max(try row.time(8), try row.time(6)),
        createdAt: try row.time(6))
    }
    return (summaries, rows.count, try rows.last?.room(0))
  }
}
