package import Basics
internal import Synchronization

/// Request ids: the client's where it sent a fitting one, else ours.
enum RequestIDs {
  static func make() -> String { UUID.version7().description }

  static func choose(_ given: String?) -> String {
    guard let given, (1...128).contains(given.utf8.count),
      given.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F })
    else { return make() }
    return given
  }
}

/// Logs every request with its outcome, and counts it. Above a rate per second it logs only
/// how many lines it left out.
package struct RequestLog: Middleware {
  private let log: Log
  private let metrics: Metrics
  private let linesPerSecond: Int
  private let proxies: [IPAddress.Range]
  private let window = Window()

  private final class Window: Sendable {
    struct State {
      var second: Int64 = 0
      var written = 0
      var leftOut = 0
    }
    let state = Mutex(State())
  }

  package init(log: Log, metrics: Metrics, linesPerSecond: Int, trustedProxies: [IPAddress.Range]) {
    self.log = log
    self.metrics = metrics
    self.linesPerSecond = linesPerSecond
    proxies = trustedProxies
  }

  package func respond(
    to request: Request, on route: MatchedRoute, next: Next
  ) async throws -> Response {
    let start = Monotonic.nanoseconds
    var request = request
    believeProxy(&request)
    let response = try await next(request)
    guard !Task.isCancelled else {
      // The client left, or was told already that it took too long: nobody gets this answer.
      metrics.counter(
        "martlet_http_abandoned_total", "HTTP requests whose answer came too late for anyone."
      ).add()
      return response
    }
    let microseconds = Int((Monotonic.nanoseconds - start) / 1000)
    metrics.counter(
      "martlet_http_requests_total", "HTTP requests by route and status.",
      labels: [
        "method": request.method.rawValue, "route": route.pattern,
        "status": String(response.status),
      ]
    ).add()
    metrics.histogram("martlet_http_request_seconds", "Time to answer HTTP requests.") {
      .durations()
    }
    .observe(microseconds)
    if mayWrite() {
      log.info(
        "request",
        [
          "request_id": .string(request.id), "method": .string(request.method.rawValue),
          "path": .string(request.path), "status": .init(response.status),
          "bytes": .init(response.body.count), "us": .init(microseconds),
          "address": .init(request.address),
        ])
    }
    return response
  }

  /// Behind a trusted proxy the client is the last address that no trusted proxy added.
  private func believeProxy(_ request: inout Request) {
    let peer = request.address
    guard !proxies.isEmpty, proxies.contains(where: { $0.contains(peer) }) else { return }
    let hops = request.headers.all("x-forwarded-for").flatMap { $0.split(separator: ",") }
    for hop in hops.reversed() {
      guard let address = IPAddress(String(hop.trimmingBlanks())) else { break }
      request.address = address
      if !proxies.contains(where: { $0.contains(address) }) { break }
    }
    if let scheme = request.headers["x-forwarded-proto"]?.lowercased() {
      request.isSecure = scheme == "https"
    }
  }

  private func mayWrite() -> Bool {
    guard log.level <= .info, linesPerSecond > 0 else { return false }
    let second = Monotonic.milliseconds / 1000
    let (isAllowed, leftOut) = window.state.withLock { state in
      var leftOut = 0
      if state.second != second {
        leftOut = state.leftOut
        state = Window.State(second: second)
      }
      if state.written < linesPerSecond {
        state.written += 1
        return (true, leftOut)
      }
      state.leftOut += 1
      return (false, leftOut)
    }
    if leftOut > 0 { log.info("requests_not_logged", ["count": .init(leftOut)]) }
    return isAllowed
  }
}
