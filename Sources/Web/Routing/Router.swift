package import Access
package import Basics

/// A typed path parameter: it parses its own text, so that handlers receive values.
package protocol PathParameter: Sendable {
  /// Nil if the text is not valid; the route then answers with `notFound`.
  init?(pathComponent: String)
  /// The error code if there is no such thing.
  static var notFound: ErrorCode { get }
}

extension Identifier: PathParameter {
  package init?(pathComponent: String) { self.init(pathComponent) }
  package static var notFound: ErrorCode { .notFound }
}

/// One route: its method and pattern, its policy, and its handler.
///
/// A class, because every request holds its route.
package final class Route: Sendable {
  package enum Kind: Sendable {
    case http
    case webSocket
    /// Answered from memory, by `Route.prepared`.
    case prepared
  }

  package let method: Method
  /// A pattern such as `/v1/rooms/{id}`: literal segments and named parameters. A last segment `{path...}` stands for
  /// the rest of the path, including its slashes.
  package let pattern: String
  /// Who may use the route. Every route has a policy.
  package let policy: UntypedPolicy
  package let kind: Kind
  package let body: BodyPlan
  let segments: [Segment]
  let respond: @Sendable (Request, [String]) async throws -> Response
  /// Nil except for routes of that kind.
  let prepared: (@Sendable ([String]) -> PreparedAnswer?)?

  fileprivate init(
    _ method: Method, _ pattern: String, _ policy: UntypedPolicy, _ kind: Kind, _ body: BodyPlan?,
    segments: [Segment], prepared: (@Sendable ([String]) -> PreparedAnswer?)?,
    _ respond: @escaping @Sendable (Request, [String]) async throws -> Response
  ) {
    self.method = method
    self.pattern = pattern
    self.policy = policy
    self.kind = kind
    self.body = body ?? .standard(method)
    self.segments = segments
    self.prepared = prepared
    self.respond = respond
  }

  enum Segment: Sendable, Equatable {
    case literal(String)
    case parameter
    /// The rest of the path, at least one segment.
    case rest

    init(_ text: Substring) {
      if text.hasPrefix("{") {
        self = text.hasSuffix("...}") ? .rest : .parameter
      } else {
        self = .literal(String(text))
      }
    }
  }
}

/// The table of routes, with lookup.
package struct Router: Sendable {
  package private(set) var routes: [Route] = []
  /// Routes without parameters, by path; routes with parameters, by their number of segments; and routes that take
  /// the rest of a path.
  private var literal: [String: [Int]] = [:]
  private var patterned: [Int: [Int]] = [:]
  private var open: [Int] = []

  package init() {}

  /// Adds a route. Segments `{name}` of the pattern are parameters, in the order of the handler's parameters.
  ///
  ///     router.on(.get, "/v1/rooms/{id}", policy: .room(.read)) { (request, id: RoomID) in ... }
  ///
  /// The handler receives a request with its caller, as the policy requires one. `body` is the body that the route
  /// accepts. The default is JSON for POST, PUT and PATCH, and none for other methods.
  package mutating func on<each Parameter: PathParameter>(
    _ method: Method, _ pattern: String, policy: Policy<SignedIn>, body: BodyPlan? = nil,
    _ handler:
      @escaping @Sendable (AuthenticatedRequest, repeat each Parameter) async throws ->
      Response
  ) {
    add(method, pattern, policy.untyped, .http, body) { request, texts in
      var index = 0
      return try await handler(
        try AuthenticatedRequest(request),
        repeat try Self.parameter((each Parameter).self, texts, &index))
    }
  }

  /// The same for everyone: the handler receives a request without a caller.
  package mutating func on<each Parameter: PathParameter>(
    _ method: Method, _ pattern: String, policy: Policy<Anyone>, body: BodyPlan? = nil,
    _ handler: @escaping @Sendable (Request, repeat each Parameter) async throws -> Response
  ) {
    add(method, pattern, policy.untyped, .http, body) { request, texts in
      var index = 0
      return try await handler(
        request, repeat try Self.parameter((each Parameter).self, texts, &index))
    }
  }

  /// Adds a WebSocket route. The handler decides about the upgrade; the handshake is checked before it runs.
  package mutating func webSocket(
    _ pattern: String, policy: Policy<SignedIn>,
    _ handler: @escaping @Sendable (AuthenticatedRequest) async throws -> WebSocketUpgrade
  ) {
    add(.get, pattern, policy.untyped, .webSocket, .empty) { request, _ in
      Response(try await handler(try AuthenticatedRequest(request)))
    }
  }

  /// The same for everyone.
  package mutating func webSocket(
    _ pattern: String, policy: Policy<Anyone>,
    _ handler: @escaping @Sendable (Request) async throws -> WebSocketUpgrade
  ) {
    add(.get, pattern, policy.untyped, .webSocket, .empty) { request, _ in
      Response(try await handler(request))
    }
  }

  /// Adds a route that is answered from memory, at once and for everyone: no task, no rate limit, no credential.
  /// `find` is called on the loops; nil means 404.
  package mutating func prepared<each Parameter: PathParameter>(
    _ pattern: String,
    _ find: @escaping @Sendable (repeat each Parameter) -> PreparedAnswer?
  ) {
    let prepared: @Sendable ([String]) -> PreparedAnswer? = { texts in
      var index = 0
      // An invalid parameter means that there is no such thing.
      do { return find(repeat try Self.parameter((each Parameter).self, texts, &index)) } catch {
        return nil
      }
    }
    add(.get, pattern, Policy.anyone.untyped, .prepared, .empty, prepared: prepared) { _, _ in
      throw AppError(.notFound)
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
    _ body: BodyPlan?, prepared: (@Sendable ([String]) -> PreparedAnswer?)? = nil,
    _ respond: @escaping @Sendable (Request, [String]) async throws -> Response
  ) {
    let segments = pattern.dropFirst().split(separator: "/", omittingEmptySubsequences: false).map {
      Route.Segment($0)
    }
    let index = routes.count
    routes.append(
      Route(
        method, pattern, policy, kind, body, segments: segments, prepared: prepared, respond))
    if segments.last == .rest {
      open.append(index)
    } else if segments.contains(.parameter) {
      patterned[segments.count, default: []].append(index)
    } else {
      literal[pattern, default: []].append(index)
    }
  }

  enum Match {
    /// An index in `routes`, and the values of its parameters.
    case found(Int, [String])
    /// The path exists for other methods only.
    case methodNotAllowed(Set<Method>)
    case none
  }

  /// Finds the route for a method and a percent-encoded path. A GET route also answers HEAD. Nil is a method that no
  /// route uses.
  func match(_ method: Method?, _ path: String) -> Match {
    if let indexes = literal[path] { return choose(indexes, [], method) }
    let raw = path.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
    var parts: [String] = []
    for segment in raw {
      guard let part = percentDecoded(segment) else { return .none }
      parts.append(part)
    }
    let fitting = (patterned[raw.count] ?? []).filter { fits(routes[$0].segments, parts) }
    if !fitting.isEmpty { return choose(fitting, parts, method) }
    let ending = open.filter { fits(routes[$0].segments.dropLast(), parts) && hasRest($0, parts) }
    return ending.isEmpty ? .none : choose(ending, parts, method)
  }

  /// Whether the path has a rest behind the segments of a route with `{path...}`. Empty segments, and those that lead
  /// elsewhere (`..`), match nothing.
  private func hasRest(_ index: Int, _ parts: [String]) -> Bool {
    let rest = parts.dropFirst(routes[index].segments.count - 1)
    return !rest.isEmpty && rest.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." }
  }

  /// The values of a route's parameters in a path that matches it.
  private func values(_ index: Int, _ parts: [String]) -> [String] {
    let segments = routes[index].segments
    var values = zip(segments, parts).filter { $0.0 == .parameter }.map(\.1)
    if segments.last == .rest {
      values.append(parts.dropFirst(segments.count - 1).joined(separator: "/"))
    }
    return values
  }

  /// Whether a path begins with these segments.
  private func fits(_ segments: some Collection<Route.Segment>, _ parts: [String]) -> Bool {
    parts.count >= segments.count
      && zip(segments, parts).allSatisfy { segment, part in
        switch segment {
        case .literal(let text): text == part
        case .parameter: !part.isEmpty
        case .rest: false
        }
      }
  }

  private func choose(_ indexes: [Int], _ parts: [String], _ method: Method?) -> Match {
    if let index = indexes.first(where: { routes[$0].method == method }) {
      return .found(index, values(index, parts))
    }
    // A WebSocket is opened with GET only (RFC 6455, 4.1).
    let answersHead = indexes.first {
      routes[$0].method == .get && routes[$0].kind != .webSocket
    }
    if method == .head, let answersHead { return .found(answersHead, values(answersHead, parts)) }
    let allowed = Set(indexes.map { routes[$0].method })
    return .methodNotAllowed(answersHead == nil ? allowed : allowed.union([.head]))
  }
}

/// A path parameter that may be any text.
extension String: PathParameter {
  package init?(pathComponent: String) { self = pathComponent }
  package static var notFound: ErrorCode { .notFound }
}
