internal import Basics

/// Headers that keep browsers from doing harm with our answers, and those of CORS for the allowed
/// origins (Fetch standard, 3.2).
package struct BrowserSecurity: Middleware {
  private let origins: Origins

  package init(origins: Origins) { self.origins = origins }

  package func respond(
    to request: Request, on route: MatchedRoute, next: Next
  ) async throws -> Response {
    let origin = request.headers["origin"].flatMap { origins.allows($0) ? $0 : nil }
    var response = try await next(request)
    response.add("vary", "origin, accept-encoding")
    if let origin {
      response.add("access-control-allow-origin", origin)
      response.add("access-control-allow-credentials", "true")
      response.add("access-control-expose-headers", "x-request-id, retry-after")
    }
    guard response.upgrade == nil else { return response }
    response.add("x-content-type-options", "nosniff")
    response.add("x-frame-options", "DENY")
    response.add("referrer-policy", "no-referrer")
    response.add("content-security-policy", "default-src 'none'; frame-ancestors 'none'")
    if response.header("cache-control") == nil { response.add("cache-control", "no-store") }
    if request.isSecure {
      response.add("strict-transport-security", "max-age=31536000")
    }
    return response
  }
}

/// Answers the questions that browsers ask before requests of other origins' pages.
package struct Preflight: Middleware {
  private let origins: Origins

  package init(origins: Origins) { self.origins = origins }

  package func respond(
    to request: Request, on route: MatchedRoute, next: Next
  ) async throws -> Response {
    guard request.method == .options, request.headers["access-control-request-method"] != nil,
      let origin = request.headers["origin"], origins.allows(origin)
    else { return try await next(request) }
    var response = Response(status: 204)
    response.add("access-control-allow-methods", "GET, POST, PUT, PATCH, DELETE")
    response.add("access-control-allow-headers", "authorization, content-type, x-request-id")
    response.add("access-control-max-age", "600")
    return response
  }
}
