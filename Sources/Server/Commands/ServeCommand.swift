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
/// SIGTERM and SIGINT drain it; a second one ends it at once. SIGHUP reloads the certificates.
enum ServeCommand {
  /// Blocks from this size on get pages of their own, which return to the system when the block is freed. If the size
  /// is not set, glibc raises it to that of the largest such block ever freed. Large blocks then come from the heap
  /// and fragment it (mallopt(3)).
  private static let largeBlockBytes: Int32 = 128 * 1024

  private final class Started: Sendable {
    let running = Mutex<MartletServer.Running?>(nil)
  }

  static func run(_ settings: Settings) -> Int32 {
    martlet_fix_mmap_threshold(largeBlockBytes)
    // Waited for below. Blocked before any thread starts, so that no thread handles them.
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
      // Before the server has started, there is nothing to drain.
      guard let running else { return 0 }
      if isDraining {
        log.warning("drain_cut_short", ["signal": .init(number)])
        // The status that a shell reports for a process that was ended by a signal.
        return 128 + number
      }
      isDraining = true
      drain(server, running)
    }
  }

  /// On a thread of its own, so that a start that waits for its database can be interrupted.
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

  /// On a thread of its own, so that another signal can be handled meanwhile. Ends the process.
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
