internal import Basics

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// The command line interface of `martlet`.
package enum MartletCommand {
  package static let version = "0.1.0"

  /// The exit status for wrong syntax.
  private static let usageStatus: Int32 = 2
  private static let failureStatus: Int32 = 1

  /// Runs a command. Returns the exit status: 0, 1 for a failure, 2 for wrong syntax. (`serve` has further ones for
  /// signals.)
  package static func run(_ arguments: [String], environment: [String: String]) -> Int32 {
    do {
      switch try CommandLineParser(commands: Commands.all).parse(arguments) {
      case .helpOnAll: say(CommandHelp.all(Commands.all))
      case .help(let commands): say(CommandHelp.text(on: commands))
      case .version: say("martlet \(version)")
      case .run(let command, let arguments, let options, let file):
        return try command.run(
          Command.Call(
            arguments: arguments, options: options, configurationFile: file,
            environment: environment))
      }
      return 0
    } catch let error as UsageError {
      let help = error.command.map { "martlet \($0) --help" } ?? "martlet --help"
      printError("\(error.message) See `\(help)`.")
      return usageStatus
    } catch {
      return fail(error)
    }
  }

  /// Prints a line on standard output.
  static func say(_ text: String) { write(text + "\n", to: 1) }

  /// Prints on standard error why a command failed. Returns the exit status.
  static func fail(_ error: any Error) -> Int32 {
    if let failure = error as? AppError {
      printError(failure.underlying.map { "\(failure.message) (\($0))" } ?? failure.message)
    } else {
      printError("\(error)")
    }
    return failureStatus
  }

  private static func printError(_ text: String) { write("martlet: \(text)\n", to: 2) }

  /// Writes the whole text, unless the reader is gone.
  private static func write(_ text: String, to descriptor: Int32) {
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
      #if canImport(Glibc)
        let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      #else
        let count = bytes.withUnsafeBytes { Darwin.write(descriptor, $0.baseAddress, $0.count) }
      #endif
      if count < 0 {
        if errno == EINTR { continue }
        return
      }
      bytes = bytes.dropFirst(count)
    }
  }
}
