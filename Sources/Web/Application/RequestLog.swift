internal import Basics
internal import Synchronization

/// Request ids: the client's if it sent an acceptable one, or else a new one.
enum RequestIDs {
  static func make() -> String { UUID.version7().description }

  static func choose(_ given: String?) -> String {
    guard let given, (1...128).contains(given.utf8.count),
      given.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F })
    else { return make() }
    return given
  }
}

/// Logs and counts every request with its outcome. Beyond a rate per second it logs only the number of lines that
/// were left out.
///
/// A class, for the same reason as `Application`.
package final class RequestLog: Sendable {
  private let log: Log
  private let linesPerSecond: Int
  /// The present second, and the number of lines logged in it.
  private let second = Atomic<Int64>(0)
  private let lineCount = Atomic<Int>(0)
  private let durations: Histogram
  private let abandoned: Counter
  /// By the index of the route in its table; after these, by method, for requests without a route.
  private let counters: [StatusCounters]
  private let routeCount: Int

  private static let durationName = "martlet_http_request_seconds"

  init(log: Log, metrics: Metrics, linesPerSecond: Int, routes: [Route]) {
    self.log = log
    self.linesPerSecond = linesPerSecond
    durations = metrics.histogram(
      Self.durationName, "Time to answer HTTP requests.", Histogram.durations)
    abandoned = metrics.counter(
      "martlet_http_abandoned_total", "HTTP requests whose answer came too late for anyone.")
    let answered = routes.map {
      StatusCounters(metrics, method: $0.method.rawValue, route: $0.pattern)
    }
    let unanswered = Method.allCases.map {
      StatusCounters(metrics, method: $0.rawValue, route: "-")
    }
    counters = answered + unanswered + [StatusCounters(metrics, method: "-", route: "-")]
    routeCount = routes.count
  }

  /// An answer begins to be sent.
  func answered(_ record: RequestRecord, status: Int, bytes: Int64?) {
    let microseconds = Int((Monotonic.nanoseconds &- record.begun) / 1000)
    counters[place(of: record)].counter(status).add()
    durations.observe(microseconds)
    guard mayWrite() else { return }
    log.info(
      "request",
      [
        "request_id": .string(record.id), "method": .string(record.method?.rawValue ?? "-"),
        "path": .string(record.path), "status": .init(status), "bytes": .init(Int(bytes ?? -1)),
        "us": .init(microseconds), "address": .init(record.origin.address),
      ])
  }

  /// A WebSocket has ended: why, after what time, and how much its client sent.
  func socketEnded(_ ending: SocketEnding) {
    guard mayWrite() else { return }
    let (by, code): (String, UInt16) =
      switch ending.reason {
      case .server(let code): ("server", code)
      case .client(let code): ("client", code ?? 1005)
      case nil: ("nobody", 1006)
      }
    log.info(
      "socket_ended",
      [
        "request_id": .string(ending.requestID), "address": .init(ending.address),
        "closed_by": .string(by), "code": .init(code), "ms": .init(ending.milliseconds),
        "messages": .init(ending.messages),
      ])
  }

  /// Nobody receives the answer, because the client is gone or was already told that it took too long.
  func abandonedAnswer() { abandoned.add() }

  private func place(of record: RequestRecord) -> Int {
    if let route = record.route { return route }
    let method = record.method.flatMap { Method.allCases.firstIndex(of: $0) }
    return routeCount + (method ?? Method.allCases.count)
  }

  // MARK: Sampling

  private func mayWrite() -> Bool {
    guard log.level <= .info, linesPerSecond > 0 else { return false }
    let now = Monotonic.milliseconds / 1000
    let known = second.load(ordering: .relaxed)
    if known != now,
      second.compareExchange(expected: known, desired: now, ordering: .relaxed).exchanged
    {
      let leftOut = lineCount.exchange(0, ordering: .relaxed) - linesPerSecond
      if leftOut > 0 { log.info("requests_not_logged", ["count": .init(leftOut)]) }
    }
    return lineCount.wrappingAdd(1, ordering: .relaxed).oldValue < linesPerSecond
  }
}

/// The counters of one route, created when a status first occurs.
private final class StatusCounters: Sendable {
  private let metrics: Metrics
  private let method: String
  private let route: String
  private let counters = Mutex<[(status: Int, counter: Counter)]>([])

  init(_ metrics: Metrics, method: String, route: String) {
    self.metrics = metrics
    self.method = method
    self.route = route
  }

  func counter(_ status: Int) -> Counter {
    counters.withLock { counters in
      if let known = counters.first(where: { $0.status == status }) { return known.counter }
      let made = metrics.counter(
        "martlet_http_requests_total", "HTTP requests by route and status.",
        labels: ["method": method, "route": route, "status": String(status)])
      counters.append((status, made))
      return made
    }
  }
}
