internal import Basics
internal import EventLoop

/// The command line of the load generator.
enum Bench {
  static func run(_ given: [String]) -> Never {
    var arguments = given
    let scenarioName = arguments.isEmpty ? "" : arguments.removeFirst()
    var options: [String: String] = [:]
    while arguments.count >= 2 {
      options[arguments[0]] = arguments[1]
      arguments.removeFirst(2)
    }
    func number(_ name: String, _ standard: Int) -> Int {
      options[name].flatMap { Int($0) } ?? standard
    }
    _ = ProcessLimits.raiseOpenFiles()
    guard let port = UInt16(options["--port"] ?? "") else { fail("--port is missing") }
    let target = Target(
      kind: Target.Kind(rawValue: options["--target"] ?? "martlet") ?? .martlet, port: port,
      secret: options["--secret"] ?? "", path: options["--path"] ?? "/", bearer: options["--bearer"]
    )
    let seconds = options["--seconds"].flatMap { Double($0) } ?? 5
    let contentBytes = number("--bytes", 128)
    let connections = number("--connections", 1000)
    let rooms = number("--rooms", 100)
    let inFlight = number("--in-flight", 1)
    let hearsRooms = options["--hears"] != nil
    let rate = options["--rate"].flatMap { Double($0) }
    let typing = options["--typing"].flatMap { Double($0) } ?? 0
    let change = options["--change"].flatMap { Scenario.Change(rawValue: $0) }
    let hold = number("--hold", 0)
    let entries = number("--entries", 900)
    let path = options["--path"] ?? "/v1/me"
    let otherPort = UInt16(options["--other-port"] ?? "")
    let processes = (options["--pids"] ?? "").split(separator: ",").compactMap { Int($0) }
    let spins = options["--spin"] != nil
    let loop = Loop()

    let report: @Sendable (Outcome) -> Void = { outcome in
      let members = outcome.values.map { "\"\($0)\":\(($1 * 1000).rounded() / 1000)" }
      print("{" + members.joined(separator: ",") + "}")
      flushOutput()
      // The connections stay open meanwhile, so that the caller can inspect the server.
      loop.schedule(after: hold * 1000) { ProcessEnvironment.exit(0) }
    }
    loop.execute {
      if spins { loop.runWithoutWaiting() }
      let scenario = Scenario(
        loop: loop, target: target, seconds: seconds, contentBytes: contentBytes,
        usage: ServerUsage(processes: processes))
      kept = scenario
      switch scenarioName {
      case "fanout":
        scenario.fanout(
          subscribers: connections, inFlight: inFlight, ratePerSecond: rate, report)
      case "rooms":
        scenario.rooms(
          rooms, members: max(1, connections / rooms), inFlight: inFlight, ratePerSecond: rate,
          typingPerSecond: typing, report)
      case "changes":
        guard let change else {
          fail("--change is edit or react")
        }
        scenario.changes(change, subscribers: connections, inFlight: inFlight, report)
      case "ingest":
        scenario.rooms(rooms, members: 1, inFlight: inFlight, ratePerSecond: rate, report)
      case "idle":
        scenario.open(
          connections, atOnce: Scenario.openedAtOnce, hearsRooms: true, report)
      case "connect":
        scenario.open(connections, atOnce: inFlight, hearsRooms: hearsRooms, report)
      case "subscriptions":
        scenario.subscriptions(rooms: rooms, connections: connections, report)
      case "resume":
        scenario.resume(entries: entries, connections: connections, report)
      case "stalled":
        scenario.stalledResume(
          entries: entries, connections: connections, messages: 300, report)
      case "nodes":
        guard let otherPort else { fail("--other-port is missing") }
        let other = Target(
          kind: .martlet, port: otherPort, secret: target.secret, path: "", bearer: nil)
        scenario.nodes(rooms, other: other, ratePerSecond: rate ?? 1000, report)
      case "http": scenario.http(path: path, connections: connections, report)
      default: fail("unknown scenario \(scenarioName)")
      }
    }
    waitForever()
  }
}
