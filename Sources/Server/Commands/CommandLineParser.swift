/// A parser of command lines. It is a value: words go in, a request comes out; nothing is executed.
struct CommandLineParser {
  /// What a command line requests.
  enum Request {
    case run(Command, arguments: [String], options: [String: String], configurationFile: String?)
    case helpOnAll
    /// Help for the commands of a group, such as `admin`, or for one command.
    case help([Command])
    case version
  }

  let commands: [Command]

  private static let configuration = Command.Option(
    name: "config", value: "FILE", meaning: "Settings from a file of NAME=value lines.")
  private static let help = Command.Option(name: "help", value: nil, meaning: "")
  private static let version = Command.Option(name: "version", value: nil, meaning: "")
  private static let shortNames = ["-h": "help", "-v": "version", "-V": "version"]

  /// The words that were read so far.
  private struct Words {
    var plain: [String] = []
    var options: [String: String] = [:]
  }

  /// Parses the words after the program's name. Throws if their syntax is wrong.
  func parse(_ words: [String]) throws(UsageError) -> Request {
    // The meaning of an option depends on the command, which may come after it.
    let command = try command(named: try read(words, anyOptions: true).plain)
    let allowed = [Self.configuration, Self.help, Self.version] + (command.only?.options ?? [])
    let read = try read(words, allowing: allowed, of: command.only, anyOptions: false)
    if read.options["help"] != nil {
      return command.candidates.isEmpty ? .helpOnAll : .help(command.candidates)
    }
    if read.options["version"] != nil { return .version }
    if command.isHelp {
      return command.candidates.isEmpty ? .helpOnAll : .help(command.candidates)
    }
    guard let found = command.only else {
      guard let group = command.group else {
        throw UsageError(message: "A command is missing.", command: nil)
      }
      throw UsageError(message: "`\(group)` needs one of its commands.", command: group)
    }
    let arguments = Array(read.plain.dropFirst(command.wordCount))
    if arguments.count < found.arguments.count {
      throw UsageError(
        message: "`\(found.name)` needs \(found.arguments[arguments.count].name).",
        command: found.name)
    }
    if arguments.count > found.arguments.count {
      throw UsageError(
        message: "`\(found.name)` does not take `\(arguments[found.arguments.count])`.",
        command: found.name)
    }
    if let empty = zip(arguments, found.arguments).first(where: { $0.0.isEmpty }) {
      throw UsageError(message: "\(empty.1.name) is empty.", command: found.name)
    }
    var options = read.options
    let file = options.removeValue(forKey: Self.configuration.name)
    return .run(found, arguments: arguments, options: options, configurationFile: file)
  }

  // MARK: The command

  private struct Found {
    /// The command that was named.
    var only: Command?
    /// `admin`, if no more than that was given.
    var group: String?
    /// The commands that help is about.
    var candidates: [Command] = []
    var isHelp = false
    /// The number of words that name the command.
    var wordCount = 0
  }

  private func command(named words: [String]) throws(UsageError) -> Found {
    var words = words[...]
    var found = Found()
    if words.first == "help" {
      found.isHelp = true
      words.removeFirst()
    }
    guard let first = words.first else { return found }
    let second = words.dropFirst().first
    if let command = commands.first(where: { $0.name == first }) {
      found.only = command
      found.wordCount = 1
    } else if let second, let command = commands.first(where: { $0.name == "\(first) \(second)" }) {
      found.only = command
      found.wordCount = 2
    } else {
      let group = commands.filter { $0.name.hasPrefix(first + " ") }
      guard !group.isEmpty else {
        throw UsageError(message: "There is no command `\(first)`.", command: nil)
      }
      if let second {
        throw UsageError(message: "There is no command `\(first) \(second)`.", command: first)
      }
      found.group = first
      found.candidates = group
      return found
    }
    if let only = found.only { found.candidates = [only] }
    if found.isHelp {
      guard words.count == found.wordCount else {
        throw UsageError(message: "`help` takes the name of one command.", command: nil)
      }
    }
    return found
  }

  // MARK: Options

  /// Separates options from other words. With `anyOptions` all options are skipped together with their values, and
  /// unknown options are assumed to have none.
  private func read(
    _ words: [String], allowing allowed: [Command.Option] = [], of command: Command? = nil,
    anyOptions: Bool
  ) throws(UsageError) -> Words {
    var result = Words()
    var left = words[...]
    var isBehindDashes = false
    while let word = left.popFirst() {
      if isBehindDashes || !word.hasPrefix("-") {
        result.plain.append(word)
        continue
      }
      if word == "--" {
        isBehindDashes = true
        continue
      }
      let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let name = Self.shortNames[word] ?? String(parts[0].dropFirst(word.hasPrefix("--") ? 2 : 1))
      let isShort = !word.hasPrefix("--") && Self.shortNames[word] == nil
      if anyOptions {
        if !isShort, parts.count == 1, takesValue(name) { _ = left.popFirst() }
        continue
      }
      guard !isShort, let option = allowed.first(where: { $0.name == name }) else {
        let place = command.map { "`\($0.name)` has" } ?? "There is"
        throw UsageError(message: "\(place) no option `\(parts[0])`.", command: command?.name)
      }
      guard result.options[name] == nil else {
        throw UsageError(message: "--\(name) stands twice.", command: command?.name)
      }
      result.options[name] = try value(of: option, parts, &left, command)
    }
    return result
  }

  private func value(
    of option: Command.Option, _ parts: [Substring], _ left: inout ArraySlice<String>,
    _ command: Command?
  ) throws(UsageError) -> String {
    guard let value = option.value else {
      if parts.count > 1 {
        throw UsageError(message: "--\(option.name) takes no value.", command: command?.name)
      }
      return ""
    }
    let text = parts.count > 1 ? String(parts[1]) : left.popFirst()
    guard let text, !text.isEmpty else {
      throw UsageError(message: "--\(option.name) needs a \(value).", command: command?.name)
    }
    return text
  }

  /// Whether any command has an option with this name that takes a value.
  private func takesValue(_ name: String) -> Bool {
    name == Self.configuration.name
      || commands.contains { $0.options.contains { $0.name == name && $0.value != nil } }
  }
}
