internal import Access
internal import Basics
internal import Relay
internal import Web

/// Descriptions of the server that need no running server.
enum DescribeCommands {
  /// All routes and frames with their policies, one per line.
  static func routes(_ settings: Settings) throws -> String {
    var lines = try MartletServer.describeRoutes(settings).map { route in
      let method = route.kind == .webSocket ? "WS" : route.method.rawValue
      return "\(pad(method, 7)) \(pad(route.pattern, 44)) \(route.policy.description)"
    }
    lines += RelayRoutes.frames.map { frame in
      "\(pad("FRAME", 7)) \(pad("\(frame.socket) \(frame.type)", 44)) \(frame.policy)"
    }
    return lines.joined(separator: "\n")
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
