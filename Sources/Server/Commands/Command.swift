internal import Basics

/// One command of the command line: how it is called, what its help says, and what it does.
struct Command: Sendable {
  /// A word that must follow the command's name.
  struct Argument: Sendable {
    /// As the help writes it: `EMAIL`.
    let name: String
    let meaning: String
  }

  /// What may follow as `--name VALUE` or `--name=VALUE`, and where `value` is nil as `--name`.
  struct Option: Sendable {
    let name: String
    /// As the help writes it: `NAME`.
    let value: String?
    let meaning: String
  }

  /// What a command does: with the settings of the call, and throws a sentence for the operator.
  typealias Action = @Sendable (Call) throws -> Int32

  /// One or two words: `serve`, `admin create`.
  let name: String
  let arguments: [Argument]
  let options: [Option]
  /// One line, for the list of commands.
  let summary: String
  /// What else its help says: whole sentences, in lines of at most 80 characters.
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

  /// `admin create EMAIL`
  var usage: String { ([name] + arguments.map(\.name)).joined(separator: " ") }

  /// A command as somebody called it: checked for form, and with everything that it may read.
  struct Call: Sendable {
    /// As many as the command has, none of them empty.
    let arguments: [String]
    /// By name, without the dashes. An option without a value has an empty one.
    let options: [String: String]
    /// The file that `--config` names.
    let configurationFile: String?
    let environment: [String: String]

    /// The settings of the file and the environment. Throws `SettingsError`.
    func settings() throws -> Settings {
      try Settings(environment: environment, file: configurationFile)
    }
  }
}

/// A call that the command line does not allow; a sentence for the person who typed it.
struct UsageError: Error, Equatable {
  let message: String
  /// The command whose help explains it; nil for all of them.
  let command: String?
}
