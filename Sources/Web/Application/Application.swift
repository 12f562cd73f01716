internal import Access
package import Basics
package import EventLoop

/// The routes with everything around them. The head of a request goes in, and a decision comes out. If the decision
/// is to do work, the request goes in, and an answer comes out, whatever happens.
///
/// Everything that can be decided from the head is decided at once, on the loop: the address's rate limit, the route,
/// and the length of the body. The caller is authenticated before any of the body is read.
///
/// A class, because every request uses it, and a copy of a struct would retain a dozen references.
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

  /// Parts that are nil are skipped: a listener for operators has no rate limits, callers or browsers. Large JSON
  /// bodies are parsed on `pool`, or on the loop if it is nil.
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

  /// What to do with a request.
  enum Decision {
    /// Send this answer; the body is not needed.
    case answer(Response)
    /// Send this answer, which is in memory.
    case prepared(PreparedAnswer)
    /// Call the route's handler. The body may have at most `bodyLimit` bytes, of which `ahead` may arrive before the
    /// handler asks for them.
    case work(Match, bodyLimit: Int, ahead: Int)

    struct Match: Sendable {
      let route: Route
      let values: [String]
    }
  }

  /// The client of the connection, and whether it uses TLS.
  func origin(of head: RequestHead, peer: IPAddress, isSecure: Bool) -> RequestOrigin {
    proxies.origin(of: head.headers, peer: peer, isSecure: isSecure)
  }

  /// Decides about a request by its head, and stores the route in `record`.
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

  /// Lets a request's route answer it.
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
      // Nobody receives this answer: the handler was cancelled while running, which is not an error of ours.
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

  /// Adds the headers that every answer has.
  private func add(to response: inout Response, _ headers: Headers, _ record: RequestRecord) {
    guard let crossOrigin else { return }
    crossOrigin.allow(&response, headers)
    guard response.upgrade == nil else { return }
    SecurityHeaders.add(to: &response, isSecure: record.origin.isSecure)
  }
}

/// What is known of a request besides its head, from its arrival to its line in the log.
struct RequestRecord: Sendable {
  let id: String
  let origin: RequestOrigin
  /// By `Monotonic.nanoseconds`.
  let begun: UInt64
  let head: RequestHead
  /// Its index in the table of routes; nil if no route matched.
  var route: Int?

  /// Nil for a method that no route uses.
  var method: Method? { head.method }
  var path: String { head.path }
}
