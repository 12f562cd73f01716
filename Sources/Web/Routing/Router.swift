package import Access
package import Basics

/// A path parameter that knows its own form, so that handlers get values, not text.
package protocol PathParameter: Sendable {
  /// Nil where the text is not one: the route then answers `notFound`.
  init?(pathComponent: String)
  /// The code for a thing of this kind that does not exist.
  static var notFound: ErrorCode { get }
}

extension RoomID: PathParameter {
  package init?(pathComponent: String) { self.init(pathComponent) }
  package static var notFound: ErrorCode { .roomNotFound }
}

extension UUID: PathParameter {
  package init?(pathComponent: String) { self.init(pathComponent) }
  package static var notFound: ErrorCode { .ruleNotFound }
}

extension Identifier: PathParameter {
  package init?(pathComponent: String) { self.init(pathComponent) }
  package static var notFound: ErrorCode { .notFound }
}

/// One route: what it answers to, who may use it, and what it does.
package struct Route: Sendable {
  package enum Kind: Sendable { case http, webSocket }

  package let method: Method
  /// `/v1/rooms/{id}`: literal segments and named parameters.
  package let pattern: String
  /// Who may use it. There is no route without.
  package let policy: UntypedPolicy
  package let kind: Kind
  let segments: [Segment]
  let respond: @Sendable (Request, [String]) async throws -> Response

  enum Segment: Sendable, Equatable {
    case literal(String)
    case parameter
  }
}

/// The table of routes, and finding one in it.
package struct Router: Sendable {
  package private(set) var routes: [Route] = []
  /// Routes without parameters by path; the others by their number of segments.
  private var literal: [String: [Int]] = [:]
  private var patterned: [Int: [Int]] = [:]

  package init() {}

  /// Adds a route. `{name}` segments of the pattern are parameters, in the order of the handler's.
  ///
  ///     router.on(.get, "/v1/rooms/{id}", policy: .room(.read)) { (request, id: RoomID) in ... }
  ///
  /// The handler gets a request with its caller, which the policy asks for.
  package mutating func on<each Parameter: PathParameter>(
    _ method: Method, _ pattern: String, policy: Policy<Known>,
    _ handler:
      @escaping @Sendable (AuthenticatedRequest, repeat each Parameter) async throws ->
      Response
  ) {
    add(method, pattern, policy.untyped, .http) { request, texts in
      var index = 0
      return try await handler(
        try AuthenticatedRequest(request),
        repeat try Self.parameter((each Parameter).self, texts, &index))
    }
  }

  /// As above, for whoever comes: there is no caller to ask for.
  package mutating func on<each Parameter: PathParameter>(
    _ method: Method, _ pattern: String, policy: Policy<Anyone>,
    _ handler: @escaping @Sendable (Request, repeat each Parameter) async throws -> Response
  ) {
    add(method, pattern, policy.untyped, .http) { request, texts in
      var index = 0
      return try await handler(
        request, repeat try Self.parameter((each Parameter).self, texts, &index))
    }
  }

  /// Adds a WebSocket. The handler decides on the upgrade; the handshake is checked before it runs.
  package mutating func webSocket(
    _ pattern: String, policy: Policy<Known>,
    _ handler: @escaping @Sendable (AuthenticatedRequest) async throws -> WebSocketUpgrade
  ) {
    add(.get, pattern, policy.untyped, .webSocket) { request, _ in
      Response(try await handler(try AuthenticatedRequest(request)))
    }
  }

  /// As above, for whoever comes.
  package mutating func webSocket(
    _ pattern: String, policy: Policy<Anyone>,
    _ handler: @escaping @Sendable (Request) async throws -> WebSocketUpgrade
  ) {
    add(.get, pattern, policy.untyped, .webSocket) { request, _ in
      Response(try await handler(request))
    }
  }

  private static func parameter<Parameter: PathParameter>(
    _: Parameter.Type, _ texts: [String], _ index: inout Int
  ) throws -> Parameter {
    defer { index += 1 }
    guard index < texts.count, let value = Parameter(pathComponent: texts[index]) else {
      throw AppError(Parameter.notFound)
    }
    return value
  }

  private mutating func add(
    _ method: Method, _ pattern: String, _ policy: UntypedPolicy, _ kind: Route.Kind,
    _ respond: @escaping @Sendable (Request, [String]) async throws -> Response
  ) {
    let segments = pattern.dropFirst().split(separator: "/", omittingEmptySubsequences: false).map {
      $0.hasPrefix("{") ? Route.Segment.parameter : .literal(String($0))
    }
    let index = routes.count
    routes.append(
      Route(
        method: method, pattern: pattern, policy: policy, kind: kind, segments: segments,
        respond: respond))
    if segments.contains(.parameter) {
      patterned[segments.count, default: []].append(index)
    } else {
      literal[pattern, default: []].append(index)
    }
  }

  enum Match {
    case found(Route, [String])
    /// Other methods are answered here.
    case methodNotAllowed([Method])
    case none
  }

  /// The route for a method and a percent-encoded path. HEAD is answered where GET is.
  func match(_ method: Method, _ path: String) -> Match {
    if let indexes = literal[path] { return choose(indexes, [], method) }
    let raw = path.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
    guard let candidates = patterned[raw.count] else { return .none }
    var parts: [String] = []
    for segment in raw {
      guard let part = percentDecoded(segment) else { return .none }
      parts.append(part)
    }
    let fitting = candidates.filter { index in
      zip(routes[index].segments, parts).allSatisfy { segment, part in
        switch segment {
        case .literal(let text): text == part
        case .parameter: !part.isEmpty
        }
      }
    }
    guard let first = fitting.first else { return .none }
    let values = zip(routes[first].segments, parts).filter { $0.0 == .parameter }.map(\.1)
    return choose(fitting, values, method)
  }

  private func choose(_ indexes: [Int], _ values: [String], _ method: Method) -> Match {
    let wanted = method == .head ? .get : method
    if let index = indexes.first(where: { routes[$0].method == wanted }) {
      return .found(routes[index], values)
    }
    return .methodNotAllowed(indexes.map { routes[$0].method })
  }
}
