internal import Basics

/// One command of the command line: its syntax, its help, and its action.
struct Command: Sendable {
  /// A word that must follow the command's name.
  struct Argument: Sendable {
    /// The name in the help: `EMAIL`.
    let name: String
    let meaning: String
  }

  /// An option: `--name VALUE` or `--name=VALUE`, or `--name` alone if `value` is nil.
  struct Option: Sendable {
    let name: String
    /// The name of the value in the help: `NAME`.
    let value: String?
    let meaning: String
  }

  /// The action of a command. Returns the exit status; throws a sentence for the operator.
  typealias Action = @Sendable (Call) throws -> Int32

  /// One or two words: `serve`, `admin create`.
  let name: String
  let arguments: [Argument]
  let options: [Option]
  /// One line for the list of commands.
  let summary: String
  /// The rest of its help: whole sentences, in lines of at most 100 characters.
  let details: String
  let run: Action

  init(
    _ name: String, _ arguments: [Argument] = [], options: [Option] = [], summary: String,
    details: String = "", run: @escaping Action
  ) {
    self.name = name
    self.arguments = arguments
    self.options = options
    self.summary = summary
    self.details = details
    self.run = run
  }

  /// For example `admin create EMAIL`.
  var usage: String { ([name] + arguments.map(\.name)).joined(separator: " ") }

  /// A call of a command. Its syntax was checked.
  struct Call: Sendable {
    /// As many as the command has; none is empty.
    let arguments: [String]
    /// By name, without the dashes. An option without a value has an empty text.
    let options: [String: String]
    /// The file that `--config` names.
    let configurationFile: String?
    let environment: [String: String]

    /// The settings from the file and the environment. Throws `SettingsError`.
    func settings() throws -> Settings {
      try Settings(environment: environment, file: configurationFile)
    }
  }
}

/// A call with wrong syntax; a sentence for the person who typed it.
struct UsageError: Error, Equatable {
  let message: String
  /// The command whose help explains the syntax; nil for the general help.
  let command: String?
}
