internal import Access
package import Basics
package import EventLoop

/// The routes and what stands around them: a request's head in, a decision out; then, where there is work to do, a request
/// in and an answer out, whatever happens.
///
/// What can be decided on the head is decided at once, on the loop: the address's rate, the route, the length of the body.
/// Who asks is found out before anything of the body is read.
///
/// A class: every request uses it, and a copy would count a dozen references.
package final class Application: Sendable {
  private let router: Router
  private let proxies: TrustedProxies
  private let addressLimit: AddressLimit?
  private let crossOrigin: CrossOrigin?
  private let authentication: Authentication?
  private let compression: Compression?
  private let failures: Failures
  let log: RequestLog
  private let jsonBodies: JSONBodies

  /// What is nil is not done: a listener for operators has no rates, no callers and no browsers. Large JSON bodies are parsed
  /// on `pool`; without one, on the loop.
  package init(
    router: Router, configuration: WebConfiguration, log: Log, metrics: Metrics,
    addressLimit: AddressLimit? = nil, crossOrigin: CrossOrigin? = nil,
    authentication: Authentication? = nil, compression: Compression? = nil, pool: ThreadPool? = nil
  ) {
    self.router = router
    self.addressLimit = addressLimit
    self.crossOrigin = crossOrigin
    self.authentication = authentication
    self.compression = compression
    proxies = TrustedProxies(configuration.trustedProxies)
    failures = Failures(log: log)
    self.log = RequestLog(
      log: log, metrics: metrics, linesPerSecond: configuration.accessLogPerSecond,
      routes: router.routes)
    jsonBodies = JSONBodies(
      maximumBytes: configuration.jsonBodyBytes, maximumDepth: configuration.jsonDepth, pool: pool)
  }

  // MARK: On the head

  /// What is to be done with a request.
  enum Decision {
    /// Answer this; nothing of the body is wanted.
    case answer(Response)
    /// Send this, which is in memory.
    case prepared(PreparedAnswer)
    /// The route's handler answers; the body may have so many bytes, of which `ahead` may come before it asks.
    case work(Match, bodyLimit: Int, ahead: Int)

    struct Match: Sendable {
      let route: Route
      let values: [String]
    }
  }

  /// Who asks, as far as the connection knows.
  func origin(of head: RequestHead, peer: IPAddress, isSecure: Bool) -> RequestOrigin {
    proxies.origin(of: head.headers, peer: peer, isSecure: isSecure)
  }

  /// Decides on a request by its head. `record` is told which route it is for.
  func decide(_ head: RequestHead, _ exchange: inout RequestRecord) -> Decision {
    do throws(AppError) {
      return try decideOrThrow(head, &exchange)
    } catch {
      return .answer(finished(failures.response(to: error, exchange), head, exchange))
    }
  }

  private func decideOrThrow(
    _ head: RequestHead, _ record: inout RequestRecord
  ) throws(AppError) -> Decision {
    let match = router.match(head.method, head.path)
    if case .found(let index, let values) = match, let find = router.routes[index].prepared,
      let answer = find(values)
    {
      record.route = index
      return .prepared(answer)
    }
    if let seconds = addressLimit?.take(record.origin.address) {
      throw AppError(.rateLimited, retryAfter: seconds)
    }
    if let preflight = crossOrigin?.preflight(head) {
      return .answer(finished(preflight, head, record))
    }
    if head.path == "*" {
      var response = Response.noContent
      response.add("allow", Method.allCases.map(\.rawValue).joined(separator: ", "))
      return .answer(finished(response, head, record))
    }
    switch match {
    case .none: throw AppError(.notFound)
    case .methodNotAllowed(let allowed):
      var response = failures.response(to: AppError(.methodNotAllowed), record)
      response.add("allow", allowed.map(\.rawValue).sorted().joined(separator: ", "))
      return .answer(finished(response, head, record))
    case .found(let index, let values):
      let route = router.routes[index]
      record.route = index
      if route.kind == .prepared { throw AppError(.notFound) }
      let plan = route.body.limits(jsonBytes: jsonBodies.maximumBytes)
      if let length = head.bodyLength, length > plan.limit {
        throw HTTPMachine.tooLarge(limit: plan.limit)
      }
      return .work(
        Decision.Match(route: route, values: values), bodyLimit: plan.limit, ahead: plan.ahead)
    }
  }

  func request(
    _ head: RequestHead, _ method: Method, _ record: RequestRecord, body: RequestBody, loop: Loop
  ) -> Request {
    Request(
      method: method, head: head, query: Query(head.queryText), body: body,
      address: record.origin.address, isSecure: record.origin.isSecure, id: record.id, loop: loop,
      jsonBodies: jsonBodies, credentialSource: nil, authenticated: nil)
  }

  // MARK: The work

  /// Has a request's route answer it.
  func respond(
    to request: Request, _ match: Decision.Match, _ record: RequestRecord
  ) async -> Response {
    var response: Response
    do {
      var request = request
      if match.route.policy.requirement != .anyone {
        guard let authentication else { throw AppError(.unauthenticated) }
        try await authentication.authenticate(&request, for: match.route)
      }
      if match.route.kind == .webSocket { try WebSocketHandshake.check(request) }
      response = try await match.route.respond(request, match.values)
    } catch  where Task.isCancelled || error is BodyWriter.ClientGone {
      // Nobody gets this answer, and the handler was ended in its middle: no failure of ours.
      return .failure(AppError(.unavailable), requestID: record.id)
    } catch {
      response = failures.response(to: error, record)
    }
    if let compression { await compression.compress(&response, for: request.headers) }
    add(to: &response, request.headers, record)
    return response
  }

  private func finished(
    _ response: Response, _ head: RequestHead, _ record: RequestRecord
  ) -> Response {
    var response = response
    add(to: &response, head.headers, record)
    return response
  }

  /// What every answer carries.
  private func add(to response: inout Response, _ headers: Headers, _ record: RequestRecord) {
    guard let crossOrigin else { return }
    crossOrigin.allow(&response, headers)
    guard response.upgrade == nil else { return }
    SecurityHeaders.add(to: &response, isSecure: record.origin.isSecure)
  }
}

/// What is known of a request beside its head, from its beginning to its line in the log.
struct RequestRecord: Sendable {
  let id: String
  let origin: RequestOrigin
  /// By `Monotonic.nanoseconds`.
  let begun: UInt64
  let head: RequestHead
  /// Its place in the table of routes; nil where none answers.
  var route: Int?

  /// Nil for a method that no route uses.
  var method: Method? { head.method }
  var path: String { head.path }
}
