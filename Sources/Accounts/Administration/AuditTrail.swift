internal import Access
package import Basics
package import Database
package import Web

/// What an administrator did. The raw values are stored and shown, so they never change.
package enum AuditAction: String, Sendable, CaseIterable {
  case platformAdminMade = "platform_admin_made"
  case platformAdminUnmade = "platform_admin_unmade"
  case passwordReset = "password_reset"
  case userSuspended = "user_suspended"
  case userRestored = "user_restored"
  case userErased = "user_erased"
  case roomDeleted = "room_deleted"
  case roomManagerSet = "room_manager_set"
  case messageDeleted = "message_deleted"
  case reportClosed = "report_closed"
}

/// Who did something that is recorded: a platform admin, or the operator.
package struct AuditActor: Sendable {
  /// Nil for the operator's command line.
  let userID: UserID?
  /// Empty for the command line.
  let ip: String
  let requestID: String

  private init(userID: UserID?, ip: String, requestID: String) {
    self.userID = userID
    self.ip = ip
    self.requestID = requestID
  }

  package init(_ request: AuthenticatedRequest) {
    self.init(
      userID: request.caller.userID, ip: request.address.description, requestID: request.id)
  }

  package static let commandLine = AuditActor(userID: nil, ip: "", requestID: "")
}

/// What something was done to.
package struct AuditTarget: Sendable {
  package enum Kind: String, Sendable, CaseIterable { case user, room, message, report }

  let type: Kind
  let id: String

  package static func user(_ id: UserID) -> AuditTarget {
    AuditTarget(type: .user, id: id.description)
  }
  package static func room(_ id: RoomID) -> AuditTarget {
    AuditTarget(type: .room, id: id.description)
  }
  package static func message(_ id: MessageID) -> AuditTarget {
    AuditTarget(type: .message, id: id.description)
  }
  package static func report(_ id: Int64) -> AuditTarget {
    AuditTarget(type: .report, id: String(id))
  }
}

/// The table of what administrators did. Its rows are never changed or removed, and written in the transaction of what
/// they record. Every other change of what somebody may do is only logged (`Audit`).
package struct AuditTrail: Sendable {
  private let database: any SQLDatabase

  package init(database: any SQLDatabase) { self.database = database }

  /// A row of the table.
  package struct Record: Sendable {
    package let id: Int64
    package let actorID: UserID?
    package let actorName: String
    /// One of `AuditAction`, or one that only a newer release knows.
    package let action: String
    package let targetType: String
    package let targetID: String
    package let ip: String
    package let requestID: String
    package let createdAt: Timestamp
  }

  /// Which rows are listed; nil means all.
  package struct Filter: Sendable {
    package var actor: UserID?
    package var action: AuditAction?
    /// Ids are unique among targets of one type.
    package var targetType: AuditTarget.Kind?
    package var targetID: String?
  }

  /// Adds a row.
  package static func record(
    _ action: AuditAction, on target: AuditTarget, by actor: AuditActor,
    in transaction: Transaction
  ) async throws {
    try await transaction.execute(
      """
      INSERT INTO audit (actor_id, action, target_type, target_id, ip, request_id, created_at)
      VALUES ($1, $2, $3, $4, $5, $6, $7)
      """,
      [
        .optional(actor.userID) { .id($0) }, .text(action.rawValue), .text(target.type.rawValue),
        .text(target.id), .text(actor.ip), .text(actor.requestID), .time(.now),
      ])
  }

  /// Returns rows below an id, the newest first, at most `limit`.
  package func list(_ filter: Filter, below id: Int64, limit: Int) async throws -> [Record] {
    try await database.read { transaction in
      try await transaction.query(
        """
        SELECT a.id, a.actor_id, u.name, a.action, a.target_type, a.target_id, a.ip, a.request_id,
          a.created_at
        FROM audit a LEFT JOIN users u ON u.id = a.actor_id
        WHERE a.id < $1 AND (a.action = $3 OR $3 = '') AND (a.target_id = $4 OR $4 = '')
          AND (a.actor_id = $5 OR length($5) = 0) AND (a.target_type = $6 OR $6 = '')
        ORDER BY a.id DESC LIMIT $2
        """,
        [
          .integer(id), .integer(Int64(limit)), .text(filter.action?.rawValue ?? ""),
          .text(filter.targetID ?? ""), .blob(filter.actor?.uuid.bytes ?? []),
          .text(filter.targetType?.rawValue ?? ""),
        ]
      ).map { row in
        Record(
          id: try row.integer(0), actorID: try row.optional(1) { try row.id($0) },
          actorName: try row.optional(2, row.text) ?? Self.nameOfCommandLine,
          action: try row.text(3), targetType: try row.text(4), targetID: try row.text(5),
          ip: try row.text(6), requestID: try row.text(7), createdAt: try row.time(8))
      }
    }
  }

  /// The `actor_name` of what was done on the command line.
  private static let nameOfCommandLine = "command line"
}
