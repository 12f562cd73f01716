internal import Basics
internal import CAllocator
internal import Synchronization

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// `martlet serve`: runs the server until a signal ends it.
///
/// SIGTERM and SIGINT drain it; a second one of them ends it at once. SIGHUP reads the certificates again.
enum ServeCommand {
  /// Larger blocks have pages of their own, which go back to the system when they are freed. Unless this is fixed, glibc
  /// raises it to the size of the largest such block that was ever freed, and the heap keeps the holes (mallopt(3)).
  private static let largeBlockBytes: Int32 = 128 * 1024

  private final class Started: Sendable {
    let running = Mutex<MartletServer.Running?>(nil)
  }

  static func run(_ settings: Settings) -> Int32 {
    martlet_fix_mmap_threshold(largeBlockBytes)
    // Waited for below; blocked before any thread starts, so that all of them leave these alone.
    var signals = sigset_t()
    sigemptyset(&signals)
    for number in [SIGTERM, SIGINT, SIGHUP] { sigaddset(&signals, number) }
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    signal(SIGPIPE, SIG_IGN)
    let log = Log(level: settings.logLevel, format: settings.logFormat)
    let server = MartletServer(settings: settings, log: log)
    let started = Started()
    start(server, started, log)
    var isDraining = false
    while true {
      var number: Int32 = 0
      sigwait(&signals, &number)
      let running = started.running.withLock { $0 }
      if number == SIGHUP {
        if let running { server.reloadCertificates(running) }
        continue
      }
      // Nothing was accepted yet where nothing runs.
      guard let running else { return 0 }
      if isDraining {
        log.warning("drain_cut_short", ["signal": .init(number)])
        // As a shell says it of whoever died of a signal.
        return 128 + number
      }
      isDraining = true
      drain(server, running)
    }
  }

  /// On a thread of its own, so that a start that waits for its database can be called off.
  private static func start(_ server: MartletServer, _ started: Started, _ log: Log) {
    _ = PlatformThread(name: "start") {
      do {
        let running = try server.startBlocking()
        started.running.withLock { $0 = running }
        MartletCommand.say("listening on \(running.url)")
        log.notice(
          "listening",
          ["url": .string(running.url), "version": .string(MartletCommand.version)])
      } catch {
        ProcessEnvironment.exit(MartletCommand.fail(error))
      }
    }
  }

  /// On a thread of its own, so that another signal is heard meanwhile. Ends the process.
  private static func drain(_ server: MartletServer, _ running: MartletServer.Running) {
    _ = PlatformThread(name: "drain") {
      do {
        try server.drainBlocking(running)
        ProcessEnvironment.exit(0)
      } catch {
        ProcessEnvironment.exit(MartletCommand.fail(error))
      }
    }
  }
}
