internal import Access
internal import Basics
internal import Database

/// Finds everything that a person has written.
///
/// There is no index by author, which each message would have to pay for. Instead `room_marks` names the rooms in which
/// somebody was or has written, and the log of each is read in stretches.
enum AuthoredMessages {
  /// The most entries that one statement passes over.
  private static let entriesPerStretch: Int64 = 20_000

  /// Returns rooms in which the person has written, among others, by ascending id above `after`; at most `limit`.
  static func rooms(
    of user: UserID, after: RoomID, limit: Int, in transaction: Transaction
  ) async throws -> [RoomID] {
    try await transaction.query(
      """
      SELECT room_id FROM room_marks WHERE user_id = $1 AND room_id > $2
      UNION
      SELECT h.room_id FROM room_heads h
      WHERE h.marked_seq < h.message_seq AND h.room_id > $2 AND EXISTS (
        SELECT 1 FROM entries e
        WHERE e.room_id = h.room_id AND e.seq > h.marked_seq AND e.sender = $1)
      ORDER BY room_id LIMIT $3
      """, [.id(user), .room(after), .integer(Int64(limit))]
    ).map { try $0.room(0) }
  }

  /// Returns the seqs of messages of the person in a room above `after`, ascending and at most `limit`, that are not
  /// deleted. `end` is the seq up to which was searched; nil if there is nothing behind it.
  static func seqs(
    of user: UserID, in room: RoomID, after: Int64, limit: Int, _ transaction: Transaction
  ) async throws -> (seqs: [Int64], end: Int64?) {
    let last = try await RoomStore.lastSeqs([room], in: transaction)[room] ?? 0
    let end = min(after + entriesPerStretch, last)
    let seqs = try await transaction.query(
      """
      SELECT seq FROM entries
      WHERE room_id = $1 AND seq > $2 AND seq <= $3 AND sender = $4 AND type < 16
        AND erased_at IS NULL
      ORDER BY seq LIMIT $5
      """,
      [.room(room), .integer(after), .integer(end), .id(user), .integer(Int64(limit))]
    ).map { try $0.integer(0) }
    if seqs.count == limit { return (seqs, seqs.last) }
    return (seqs, end < last ? end : nil)
  }
}
