internal import Access
internal import Basics
internal import Relay
internal import Web

/// Descriptions of the server that need no running server.
enum DescribeCommands {
  /// All routes and frames with their policies, one per line.
  static func routes(_ settings: Settings) throws -> String {
    let routes = try MartletServer.describeRoutes(settings).map { route in
      (
        route.kind == .webSocket ? "WS" : route.method.rawValue, route.pattern,
        route.policy.description
      )
    }
    let rows =
      routes + RelayRoutes.frames.map { ("FRAME", "\($0.socket) \($0.type)", $0.policy) }
    let width = rows.map(\.1.count).max() ?? 0
    return rows.map { method, pattern, policy in
      "\(pad(method, 7)) \(pad(pattern, width))  \(policy)"
    }.joined(separator: "\n")
  }

  private static func pad(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
  }

  /// The page docs/CONFIGURATION.md, from the table of settings.
  static func settingsPage() -> String {
    var page = """
      # Configuration

      Settings come from the environment, and from a file of `NAME=value` lines that `--config` names. The
      environment takes precedence. The server does not start with an unknown `MARTLET_` name. This page is
      the output of `martlet settings`; a test compares them.

      | Setting | Default | Meaning |
      |---|---|---|
      """
    for row in Settings.table {
      let standard = row.defaultText.map { "`\($0)`" } ?? "unset"
      page += "\n| `\(row.name)` | \(standard) | \(row.meaning) |"
    }
    return page
  }
}
