import Testing

@testable import Server

/// The meaning of command lines, with a table of commands that do nothing.
@Suite struct CommandLineParserTests {
  private static let parser = CommandLineParser(commands: [
    Command("serve", summary: "s") { _ in 0 },
    Command(
      "admin create", [Command.Argument(name: "EMAIL", meaning: "m")],
      options: [
        Command.Option(name: "name", value: "NAME", meaning: "m"),
        Command.Option(name: "quiet", value: nil, meaning: "m"),
      ], summary: "s"
    ) { _ in 0 },
    Command("admin list", summary: "s") { _ in 0 },
  ])

  /// The request as one line of text, for a table of expectations.
  private func meaning(_ line: [String]) -> String {
    do {
      switch try Self.parser.parse(line) {
      case .helpOnAll: return "help"
      case .help(let commands): return "help on " + commands.map(\.name).joined(separator: ", ")
      case .version: return "version"
      case .run(let command, let arguments, let options, let file):
        let options = options.sorted { $0.key < $1.key }.map { "\($0)=\($1)" }
        return ([command.name] + arguments + options + (file.map { ["file \($0)"] } ?? []))
          .joined(separator: " | ")
      }
    } catch {
      return "refused: " + error.message
    }
  }

  @Test(arguments: [
    (["serve"], "serve"),
    (["--config", "f", "serve"], "serve | file f"),
    (["serve", "--config=f"], "serve | file f"),
    (["--config=a=b", "serve"], "serve | file a=b"),
    (["admin", "create", "a@b"], "admin create | a@b"),
    (
      ["admin", "--config", "f", "create", "--name", "Ada", "a@b"],
      "admin create | a@b | name=Ada | file f"
    ),
    (
      ["admin", "create", "a@b", "--name=Ada L", "--quiet"],
      "admin create | a@b | name=Ada L | quiet="
    ),
    (["--name", "Ada", "admin", "create", "a@b"], "admin create | a@b | name=Ada"),
    (["admin", "create", "--", "-a@b"], "admin create | -a@b"),
  ])
  func `a call`(words: [String], expected: String) {
    #expect(meaning(words) == expected)
  }

  @Test(arguments: [
    (["--help"], "help"), (["-h"], "help"), (["help"], "help"),
    (["help", "serve"], "help on serve"), (["serve", "--help"], "help on serve"),
    (["-h", "serve"], "help on serve"), (["serve", "--help", "more"], "help on serve"),
    (["admin", "--help"], "help on admin create, admin list"),
    (["help", "admin"], "help on admin create, admin list"),
    (["help", "admin", "create"], "help on admin create"),
    (["admin", "create", "-h"], "help on admin create"),
    (["--version"], "version"), (["-v"], "version"), (["-V"], "version"),
    (["serve", "--version"], "version"),
  ])
  func `help and version`(words: [String], expected: String) {
    #expect(meaning(words) == expected)
  }

  @Test(arguments: [
    ([], "A command is missing."),
    ([""], "There is no command ``."),
    (["dance"], "There is no command `dance`."),
    (["dance", "--help"], "There is no command `dance`."),
    (["admin"], "`admin` needs one of its commands."),
    (["admin", "dance"], "There is no command `admin dance`."),
    (["admin", "create"], "`admin create` needs EMAIL."),
    (["admin", "create", ""], "EMAIL is empty."),
    (["admin", "create", "a@b", "c@d"], "`admin create` does not take `c@d`."),
    (["serve", "serve"], "`serve` does not take `serve`."),
    (["serve", ""], "`serve` does not take ``."),
    (["help", "serve", "x"], "`help` takes the name of one command."),
    (["serve", "--fast"], "`serve` has no option `--fast`."),
    (["serve", "--name", "Ada"], "`serve` has no option `--name`."),
    (["serve", "-x"], "`serve` has no option `-x`."),
    (["serve", "-help"], "`serve` has no option `-help`."),
    (["-x"], "There is no option `-x`."),
    (["--config"], "--config needs a FILE."),
    (["serve", "--config"], "--config needs a FILE."),
    (["serve", "--config="], "--config needs a FILE."),
    (["serve", "--config", ""], "--config needs a FILE."),
    (["--config", "a", "--config=b", "serve"], "--config stands twice."),
    (["--config", "serve"], "A command is missing."),
    (["admin", "create", "a@b", "--name"], "--name needs a NAME."),
    (["admin", "create", "a@b", "--quiet", "--quiet"], "--quiet stands twice."),
    (["admin", "create", "a@b", "--quiet=yes"], "--quiet takes no value."),
    (["serve", "--help=me"], "--help takes no value."),
  ])
  func `what is no call is refused with a reason`(words: [String], expected: String) {
    #expect(meaning(words) == "refused: " + expected)
  }

  @Test func `every command of the program has a help of its own`() {
    for command in Commands.all {
      let text = CommandHelp.text(on: [command])
      #expect(text.contains(command.usage) && text.contains(command.summary))
      #expect(command.arguments.allSatisfy { text.contains($0.meaning) })
      #expect(CommandHelp.all(Commands.all).contains(command.usage))
      #expect(text.split(separator: "\n").allSatisfy { $0.count <= 100 })
    }
    #expect(Set(Commands.all.map(\.name)).count == Commands.all.count)
  }
}
