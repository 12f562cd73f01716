internal import Basics
internal import Synchronization

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// The command line: what `martlet` understands.
package enum MartletCommand {
  package static let version = "0.1.0"

  /// Runs a command; returns the exit status.
  package static func run(_ arguments: [String], environment: [String: String]) -> Int32 {
    var arguments = arguments
    var file: String?
    if let index = arguments.firstIndex(of: "--config") {
      guard index + 1 < arguments.count else { return fail("--config needs a file.") }
      file = arguments[index + 1]
      arguments.removeSubrange(index...(index + 1))
    }
    do {
      switch arguments.first {
      case nil, "--help", "-h", "help":
        say(help)
        return 0
      case "--version": say("martlet \(version)")
      case "serve" where arguments.count == 1:
        return try serve(try settings(environment, file))
      case "settings" where arguments.count == 1: say(AdminCommands.settingsPage())
      case "routes" where arguments.count == 1: say(try admin(environment, file).routes())
      case "migrate" where arguments.count == 1: say(try admin(environment, file).migrate())
      case "renew-epoch" where arguments.count == 1: say(try admin(environment, file).renewEpoch())
      case "backup" where arguments.count == 2:
        say(try admin(environment, file).backup(to: arguments[1]))
      case "admin" where arguments.count == 3 && arguments[1] == "grant":
        say(try admin(environment, file).grant(email: arguments[2]))
      case "admin" where arguments.count == 3 && arguments[1] == "reset-password":
        say(try admin(environment, file).resetPassword(email: arguments[2]))
      default:
        return fail("martlet does not know `\(arguments.joined(separator: " "))`; try --help.")
      }
      return 0
    } catch {
      return fail(error)
    }
  }

  private static func admin(
    _ environment: [String: String], _ file: String?
  ) throws -> AdminCommands { AdminCommands(try settings(environment, file)) }

  static let help = """
    martlet - live communication for an organisation, on your own machine

    Usage: martlet [--config FILE] COMMAND

    Commands:
      serve                         run the server
      migrate                       bring the database's schema up to date
      admin grant EMAIL             make an account a platform admin
      admin reset-password EMAIL    set a new password and print it
      backup FILE                   save a consistent copy of the embedded database, online
      renew-epoch                   after restoring an older database: clients reload
      routes                        print every route and frame with its policy
      settings                      print every setting (docs/CONFIGURATION.md)
      --version                     print the version
      --help                        print this

    Settings come from the environment, or from a file of NAME=value lines; the environment wins.
    The server listens on http://127.0.0.1:8080 and keeps its data in ./data unless told otherwise.
    """

  private static func settings(
    _ environment: [String: String], _ file: String?
  ) throws -> Settings {
    try Settings(environment: environment, file: file, cores: ProcessLimits.cores)
  }

  private static func serve(_ settings: Settings) throws -> Int32 {
    // Waited for below; blocked before any thread starts, so that all of them leave these alone.
    var signals = sigset_t()
    sigemptyset(&signals)
    for number in [SIGTERM, SIGINT, SIGHUP] { sigaddset(&signals, number) }
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    signal(SIGPIPE, SIG_IGN)
    let log = Log(level: settings.logLevel, format: settings.logFormat)
    let server = MartletServer(settings: settings, log: log)
    let started = Started()
    // On a thread of its own, so that a start that waits for its database can be called off.
    _ = Thread(name: "start") {
      do {
        let running = try server.startBlocking()
        started.running.withLock { $0 = running }
        say("listening on \(running.url)")
        log.notice("listening", ["url": .string(running.url), "version": .string(version)])
      } catch {
        ProcessEnvironment.exit(fail(error))
      }
    }
    while true {
      var number: Int32 = 0
      sigwait(&signals, &number)
      let running = started.running.withLock { $0 }
      if number == SIGHUP {
        if let running { server.reloadCertificates(running) }
        continue
      }
      // Nothing was accepted yet where nothing runs.
      if let running { try server.drainBlocking(running) }
      return 0
    }
  }

  private final class Started: Sendable {
    let running = Mutex<MartletServer.Running?>(nil)
  }

  private static func say(_ text: String) {
    let line = Array((text + "\n").utf8)
    _ = write(1, line, line.count)
  }

  private static func fail(_ error: any Error) -> Int32 {
    guard let failure = error as? AppError else { return fail("\(error)") }
    return fail(failure.underlying.map { "\(failure.message) (\($0))" } ?? failure.message)
  }

  private static func fail(_ text: String) -> Int32 {
    let line = Array("martlet: \(text)\n".utf8)
    _ = write(2, line, line.count)
    return 1
  }
}
