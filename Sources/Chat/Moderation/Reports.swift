package import Access
package import Accounts
package import Basics
package import Database
internal import Events

/// A message that somebody has reported to the platform admins.
package struct Report: Sendable {
  package enum Status: String, Sendable, CaseIterable { case open, closed }

  package let id: Int64
  package let roomID: RoomID
  package let seq: Int64
  package let reporter: UserID
  package let reason: String
  package let createdAt: Timestamp
  /// Nil while it is open.
  package let closedAt: Timestamp?
  package let closedBy: UserID?
}

/// The reports of messages.
///
/// A report gives the message to the platform admins as it is when they look, and to nobody else. It also does so for a
/// message of a secret room, as long as that exists: its reader has decided that.
package struct Reports: Sendable {
  private let database: any SQLDatabase
  private let history: MessageHistory

  package init(database: any SQLDatabase, history: MessageHistory) {
    self.database = database
    self.history = history
  }

  /// A report with its message, which is nil if its room was deleted.
  package struct View: Sendable {
    package let report: Report
    package let message: MessageView?
  }

  /// Reports a message that the caller may read. A second report of the same message by the same person replaces the
  /// reason of the first, as long as that is open. Throws `room_not_found`, `forbidden`, `message_not_found`,
  /// `message_deleted`, and `validation_failed` for an event.
  package func report(
    _ seq: Int64, in room: RoomID, reason: String, by caller: Caller
  ) async throws {
    let message = try await history.message(seq, in: room, as: caller)
    guard message.deletedAt == nil else { throw AppError(.messageDeleted) }
    guard message.entry.body.isMessage else {
      throw AppError(.validationFailed, "Events cannot be reported.")
    }
    try await database.write { transaction in
      try await transaction.execute(
        """
        INSERT INTO reports (room_id, seq, reporter, reason, created_at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (room_id, seq, reporter) WHERE closed_at IS NULL
          DO UPDATE SET reason = excluded.reason
        """,
        [.room(room), .integer(seq), .id(caller.userID), .text(reason), .time(.now)])
    }
  }

  /// Returns reports below an id, the newest first; at most `limit`.
  package func list(
    _ status: Report.Status?, below id: Int64, limit: Int, for caller: Caller
  ) async throws -> [View] {
    try await database.read { transaction in
      let reports = try await transaction.query(
        """
        SELECT id, room_id, seq, reporter, reason, created_at, closed_at, closed_by FROM reports
        WHERE id < $1 AND ($3 = '' OR ($3 = 'open') = (closed_at IS NULL))
        ORDER BY id DESC LIMIT $2
        """,
        [.integer(id), .integer(Int64(limit)), .text(status?.rawValue ?? "")]
      ).map(Self.report)
      let messages = try await self.history.reported(
        reports.map { ($0.roomID, $0.seq) }, to: caller, transaction)
      return zip(reports, messages).map { View(report: $0, message: $1) }
    }
  }

  /// Closes a report; nothing happens if it is closed already. Throws `report_not_found`.
  package func close(
    _ id: Int64, by caller: Caller, _ actor: AuditActor
  ) async throws -> View {
    try await database.write { transaction in
      let isNew =
        try await transaction.execute(
          "UPDATE reports SET closed_at = $2, closed_by = $3 WHERE id = $1 AND closed_at IS NULL",
          [.integer(id), .time(.now), .id(caller.userID)]) == 1
      let row = try await transaction.first(
        """
        SELECT id, room_id, seq, reporter, reason, created_at, closed_at, closed_by FROM reports
        WHERE id = $1
        """, [.integer(id)])
      guard let row else { throw AppError(.reportNotFound) }
      if isNew {
        try await AuditTrail.record(.reportClosed, on: .report(id), by: actor, in: transaction)
      }
      let report = try Self.report(row)
      let message = try await self.history.reported(
        [(report.roomID, report.seq)], to: caller, transaction)
      return View(report: report, message: message.first ?? nil)
    }
  }

  private static func report(_ row: Row) throws -> Report {
    Report(
      id: try row.integer(0), roomID: try row.room(1), seq: try row.integer(2),
      reporter: try row.id(3), reason: try row.text(4), createdAt: try row.time(5),
      closedAt: try row.optional(6, row.time), closedBy: try row.optional(7) { try row.id($0) })
  }
}
