package import Access
internal import Basics
package import Database
internal import Web

/// `me.json` of an export: the account, its settings, open sessions and teams, and whom the person blocks.
package struct AccountExportPart: ExportPart {
  private let database: any SQLDatabase

  package init(database: any SQLDatabase) { self.database = database }

  fileprivate struct Content: Sendable {
    let account: AccountSummary
    let settings: JSON
    let sessions: [Session]
    let teams: [(team: Team, member: TeamMember)]
    let blocked: [(user: UserID, name: String, createdAt: Timestamp)]
  }

  package func export(of caller: Caller, to archive: ExportArchive) async throws {
    let content = try await read(caller.userID)
    try await archive.begin("me.json")
    try await archive.write {
      var writer = JSONWriter()
      writer.value(content)
      return writer.bytes
    }
  }

  private func read(_ user: UserID) async throws -> Content {
    try await database.read { transaction in
      guard let account = try await AccountStore.summary(user, in: transaction) else {
        throw AppError(.invalidToken)
      }
      let settings = try await AccountStore.settings(user, in: transaction) ?? "{}"
      var teams: [(Team, TeamMember)] = []
      for id in try await TeamStore.teams(of: user, in: transaction) {
        guard let team = try await TeamStore.team(id, in: transaction),
          let member = try await TeamStore.member(user, of: id, in: transaction)
        else { continue }
        teams.append((team, member))
      }
      return Content(
        account: account, settings: try JSONParser.parse(Array(settings.utf8), maximumDepth: .max),
        sessions: try await AccountStore.sessions(
          of: user, behind: nil, limit: .max, in: transaction),
        teams: teams,
        blocked: try await BlockStore.blocked(
          by: user, after: nil, limit: .max, in: transaction))
    }
  }
}

extension JSONWriter {
  fileprivate mutating func value(_ content: AccountExportPart.Content) {
    object {
      $0.members(of: content.account)
      $0.member("settings", content.settings)
      $0.key("sessions")
      $0.array(of: content.sessions) { writer, session in
        writer.object {
          $0.member("id", session.id)
          $0.member("ip", session.ip)
          $0.member("user_agent", session.userAgent)
          $0.member("created_at", session.createdAt)
          $0.member("last_seen_at", session.lastSeenAt)
        }
      }
      $0.key("teams")
      $0.array(of: content.teams) { writer, item in
        writer.object {
          $0.member("id", item.team.id)
          $0.member("name", item.team.name)
          $0.member("role", item.member.role.rawValue)
          $0.member("joined_at", item.member.joinedAt)
        }
      }
      $0.key("blocks")
      $0.array(of: content.blocked) { writer, item in
        writer.object {
          $0.member("user_id", item.user)
          $0.member("name", item.name)
          $0.member("created_at", item.createdAt)
        }
      }
    }
  }
}
