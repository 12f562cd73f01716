package import Access
internal import Basics

/// What comes after a middleware: the next one, or the route's handler.
package typealias Next = @Sendable (Request) async throws -> Response

/// Something that every request passes through, on its way in and out.
package protocol Middleware: Sendable {
  func respond(to request: Request, on route: MatchedRoute, next: Next) async throws -> Response
}

/// What a middleware may know of where a request goes.
package struct MatchedRoute: Sendable {
  /// The pattern, or `-` where no route answers.
  package let pattern: String
  package let policy: UntypedPolicy
  package let kind: Route.Kind

  static let none = MatchedRoute(pattern: "-", policy: Policy.anyone.untyped, kind: .http)

  init(_ route: Route) {
    pattern = route.pattern
    policy = route.policy
    kind = route.kind
  }

  private init(pattern: String, policy: UntypedPolicy, kind: Route.Kind) {
    self.pattern = pattern
    self.policy = policy
    self.kind = kind
  }
}

/// The routes behind their middleware: a request in, a response out, whatever happens.
package struct Application: Sendable {
  private let router: Router
  private let middleware: [any Middleware]

  /// `middleware` in the order in which a request meets it. The first must turn every error into a
  /// response: `ErrorMapping` does.
  package init(router: Router, middleware: [any Middleware]) {
    self.router = router
    self.middleware = middleware
  }

  /// Answers a request; never throws, since `ErrorMapping` stands in front.
  package func respond(to request: Request) async -> Response {
    let match = router.match(request.method, request.path)
    let route: MatchedRoute =
      if case .found(let found, _) = match { MatchedRoute(found) } else { .none }
    do {
      return try await run(0, request, route) { request in
        switch match {
        case .found(let route, let values):
          if route.kind == .webSocket { try WebSocketHandshake.check(request) }
          return try await route.respond(request, values)
        case .methodNotAllowed(let allowed):
          var response = Response.failure(AppError(.methodNotAllowed), requestID: request.id)
          response.add("allow", Set(allowed.map(\.rawValue)).sorted().joined(separator: ", "))
          return response
        case .none: throw AppError(.notFound)
        }
      }
    } catch {
      return Response.failure(AppError(.internalError), requestID: request.id)
    }
  }

  private func run(
    _ index: Int, _ request: Request, _ route: MatchedRoute, _ last: @escaping Next
  ) async throws -> Response {
    guard index < middleware.count else { return try await last(request) }
    return try await middleware[index].respond(to: request, on: route) { request in
      try await run(index + 1, request, route, last)
    }
  }
}

/// The checks of RFC 6455, 4.2.1, on a request for a WebSocket.
enum WebSocketHandshake {
  /// Throws `AppError`: 426 where this is no such request or another version, 400 for a bad key.
  static func check(_ request: Request) throws {
    guard request.isWebSocketUpgrade, request.headers["sec-websocket-version"] == "13" else {
      throw AppError(.upgradeRequired)
    }
    guard let key = request.headers["sec-websocket-key"], key.utf8.count == 24, key.hasSuffix("=="),
      key.utf8.dropLast(2).allSatisfy({
        switch $0 {
        case 48...57, 65...90, 97...122, UInt8(ascii: "+"), UInt8(ascii: "/"): true
        default: false
        }
      })
    else { throw AppError(.badRequest, "The Sec-WebSocket-Key is malformed.") }
  }
}
