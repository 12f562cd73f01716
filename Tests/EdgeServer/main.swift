import Access
import Basics
import EventLoop
import Server
import Web

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The server's HTTP layer with routes that no feature has yet: uploads to disk, forms, files, streams, prepared
/// answers. Used by acceptance tests and the benchmark. Settings come from the environment, like the server's.
///
/// Usage: EdgeServer FOLDER, where uploads are written and files are read. SIGUSR1 renews the keys of TLS tickets.
let arguments = CommandLine.arguments
guard arguments.count == 2 else {
  print("usage: EdgeServer FOLDER")
  exit(2)
}
signal(SIGPIPE, SIG_IGN)
// Blocked before other threads start, so that `sigwait` receives it.
var renewal = sigset_t()
sigemptyset(&renewal)
sigaddset(&renewal, SIGUSR1)
pthread_sigmask(SIG_BLOCK, &renewal, nil)
let openFiles = ProcessLimits.raiseOpenFiles()
do {
  let settings = try Settings(environment: ProcessEnvironment.all, file: nil)
  let metrics = Metrics()
  let log = Log(level: .info, format: .json)
  let group = LoopGroup(count: 1)
  let server = WebServer(
    configuration: settings.web, group: group, openFileLimit: openFiles, log: log, metrics: metrics)
  let routes = EdgeRoutes(
    folder: arguments[1], pool: ThreadPool(name: "disk", threads: 2, maximumWaiting: 1000),
    isSecure: settings.usesTLS)
  let address = try group.loops[0].runBlocking {
    var router = Router()
    try routes.add(to: &router)
    let table = router
    return try await server.start { _ in
      Application(
        router: table, configuration: settings.web, log: log, metrics: metrics,
        crossOrigin: CrossOrigin(Origins(own: [], allowed: [])),
        compression: Compression(pool: ThreadPool(name: "gzip", threads: 1, maximumWaiting: 8)))
    }
  }
  print("listening on \(routes.isSecure ? "https" : "http")://\(address)")
  fflush(nil)
  var number: Int32 = 0
  while sigwait(&renewal, &number) == 0 { server.renewTicketKeys() }
} catch {
  print("EdgeServer: \(error)")
  exit(1)
}
