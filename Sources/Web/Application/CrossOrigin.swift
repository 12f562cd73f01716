internal import Basics

/// Cross-origin resource sharing (Fetch standard, 3.2): pages of the allowed origins may do everything, others
/// nothing.
package struct CrossOrigin: Sendable {
  private let origins: Origins

  package init(_ origins: Origins) { self.origins = origins }

  /// Answers a preflight request; nil if this is not one.
  func preflight(_ head: RequestHead) -> Response? {
    guard head.method == .options, head.headers.has("access-control-request-method"),
      let origin = head.headers["origin"], origins.allows(origin)
    else { return nil }
    var response = Response.noContent
    response.add("access-control-allow-methods", "GET, POST, PUT, PATCH, DELETE")
    response.add("access-control-allow-headers", "authorization, content-type, x-request-id")
    response.add("access-control-max-age", "600")
    return response
  }

  func allow(_ response: inout Response, _ headers: Headers) {
    response.addIfMissing("vary", "origin, accept-encoding")
    guard let origin = headers["origin"], origins.allows(origin),
      response.header("access-control-allow-origin") == nil
    else { return }
    response.add("access-control-allow-origin", origin)
    response.add("access-control-allow-credentials", "true")
    response.add("access-control-expose-headers", "x-request-id, retry-after")
  }
}

/// The origins whose pages may use a browser's cookie.
package struct Origins: Sendable {
  private let allowed: Set<String>

  /// `own` are the server's own origins.
  package init(own: [String], allowed: [String]) {
    self.allowed = Set((own + allowed).map(Self.normal))
  }

  package func allows(_ origin: String) -> Bool { allowed.contains(Self.normal(origin)) }

  /// In lower case and without the scheme's default port, which browsers omit (RFC 6454, 6.2).
  private static func normal(_ origin: String) -> String {
    let origin = origin.lowercased()
    for (scheme, port) in [("https://", ":443"), ("http://", ":80")]
    where origin.hasPrefix(scheme) && origin.hasSuffix(port) {
      return String(origin.dropLast(port.count))
    }
    return origin
  }

  func requireAllowed(_ request: Request) throws(AppError) {
    guard let origin = request.headers["origin"], allows(origin) else {
      throw AppError(.originNotAllowed)
    }
  }
}
