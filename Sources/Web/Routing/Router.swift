package import Access
package import Basics

/// A path parameter that knows its own form, so that handlers get values, not text.
package protocol PathParameter: Sendable {
  /// Nil where the text is not one: the route then answers `notFound`.
  init?(pathComponent: String)
  /// The code for a thing of this kind that does not exist.
  static var notFound: ErrorCode { get }
}

extension Identifier: PathParameter {
  package init?(pathComponent: String) { self.init(pathComponent) }
  package static var notFound: ErrorCode { .notFound }
}

/// One route: what it answers to, who may use it, and what it does.
///
/// A class: every request holds its route.
package final class Route: Sendable {
  package enum Kind: Sendable {
    case http
    case webSocket
    /// Answered from memory, by `Route.prepared`.
    case prepared
  }

  package let method: Method
  /// `/v1/rooms/{id}`: literal segments and named parameters. A last one of `{path...}` stands for all that is left of the
  /// path, its slashes included.
  package let pattern: String
  /// Who may use it. There is no route without.
  package let policy: UntypedPolicy
  package let kind: Kind
  package let body: BodyPlan
  let segments: [Segment]
  let respond: @Sendable (Request, [String]) async throws -> Response
  /// Nil but for routes of this kind.
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
    /// All that is left of the path, at least one segment.
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

/// The table of routes, and finding one in it.
package struct Router: Sendable {
  package private(set) var routes: [Route] = []
  /// Routes without parameters by path; those with, by their number of segments; those that take all that is left.
  private var literal: [String: [Int]] = [:]
  private var patterned: [Int: [Int]] = [:]
  private var open: [Int] = []

  package init() {}

  /// Adds a route. `{name}` segments of the pattern are parameters, in the order of the handler's.
  ///
  ///     router.on(.get, "/v1/rooms/{id}", policy: .room(.read)) { (request, id: RoomID) in ... }
  ///
  /// The handler gets a request with its caller, which the policy asks for. `body` is what it takes: where nothing is
  /// said, JSON with POST, PUT and PATCH, and nothing with the others.
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

  /// As above, for whoever comes: there is no caller to ask for.
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

  /// Adds a WebSocket. The handler decides on the upgrade; the handshake is checked before it runs.
  package mutating func webSocket(
    _ pattern: String, policy: Policy<SignedIn>,
    _ handler: @escaping @Sendable (AuthenticatedRequest) async throws -> WebSocketUpgrade
  ) {
    add(.get, pattern, policy.untyped, .webSocket, .empty) { request, _ in
      Response(try await handler(try AuthenticatedRequest(request)))
    }
  }

  /// As above, for whoever comes.
  package mutating func webSocket(
    _ pattern: String, policy: Policy<Anyone>,
    _ handler: @escaping @Sendable (Request) async throws -> WebSocketUpgrade
  ) {
    add(.get, pattern, policy.untyped, .webSocket, .empty) { request, _ in
      Response(try await handler(request))
    }
  }

  /// Adds a route that is answered from memory, at once and to whoever comes: no task, no rate, no credential. `find` is
  /// called on the loops; nil is 404.
  package mutating func prepared<each Parameter: PathParameter>(
    _ pattern: String,
    _ find: @escaping @Sendable (repeat each Parameter) -> PreparedAnswer?
  ) {
    let prepared: @Sendable ([String]) -> PreparedAnswer? = { texts in
      var index = 0
      // A parameter that is none names nothing.
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
    /// A place in `routes`, and the values of its parameters.
    case found(Int, [String])
    /// Other methods are answered here.
    case methodNotAllowed(Set<Method>)
    case none
  }

  /// The route for a method and a percent-encoded path. HEAD is answered where GET is. Nil is a method that no route has.
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

  /// Whether something is left of a path behind the segments of an open route. A part that is empty, or that leads
  /// elsewhere, names nothing.
  private func hasRest(_ index: Int, _ parts: [String]) -> Bool {
    let rest = parts.dropFirst(routes[index].segments.count - 1)
    return !rest.isEmpty && rest.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." }
  }

  /// What the parameters of a route are in a path that fits it.
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
    // A WebSocket is opened with GET, and with nothing else (RFC 6455, 4.1).
    let answersHead = indexes.first {
      routes[$0].method == .get && routes[$0].kind != .webSocket
    }
    if method == .head, let answersHead { return .found(answersHead, values(answersHead, parts)) }
    let allowed = Set(indexes.map { routes[$0].method })
    return .methodNotAllowed(answersHead == nil ? allowed : allowed.union([.head]))
  }
}

/// A path parameter that is any text.
extension String: PathParameter {
  package init?(pathComponent: String) { self = pathComponent }
  package static var notFound: ErrorCode { .notFound }
}
