/// The texts of `martlet --help` and `martlet COMMAND --help`, generated from the table of commands.
enum CommandHelp {
  private static let settingsText = """
    Settings come from the environment, or from a file of NAME=value lines; the environment wins.
    `martlet settings` lists them. The server listens on http://127.0.0.1:8080 and keeps its data in
    ./data unless told otherwise.
    """

  /// All commands with their summaries.
  static func all(_ commands: [Command]) -> String {
    """
    martlet - live communication for an organisation, on your own machine

    Usage: martlet [--config FILE] COMMAND

    Commands:
    \(list(commands))

    Options:
      --config FILE   settings from this file
      --help, -h      this, or the help of a command
      --version, -v   the version

    \(settingsText)
    """
  }

  /// The help of one command, or the list of a group's commands.
  static func text(on commands: [Command]) -> String {
    guard commands.count == 1, let command = commands.first else {
      return "Commands:\n\(list(commands))"
    }
    var options = command.options.map { option in
      ("--" + option.name + (option.value.map { " " + $0 } ?? ""), option.meaning)
    }
    options.append(("--config FILE", "settings from this file of NAME=value lines"))
    var parts = [
      "martlet \(command.name) - \(command.summary)",
      "Usage: martlet [--config FILE] \(command.usage)"
        + (command.options.isEmpty ? "" : " [OPTIONS]"),
    ]
    if !command.details.isEmpty { parts.append(command.details) }
    if !command.arguments.isEmpty {
      parts.append("Arguments:\n" + columns(command.arguments.map { ($0.name, $0.meaning) }))
    }
    parts.append("Options:\n" + columns(options))
    return parts.joined(separator: "\n\n")
  }

  private static func list(_ commands: [Command]) -> String {
    columns(commands.map { ($0.usage, $0.summary) })
  }

  private static func columns(_ rows: [(String, String)]) -> String {
    let width = rows.map(\.0.count).max() ?? 0
    return rows.map { left, right in
      "  " + left + String(repeating: " ", count: width - left.count + 3) + right
    }.joined(separator: "\n")
  }
}
