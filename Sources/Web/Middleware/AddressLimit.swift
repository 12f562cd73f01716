package import Basics

/// So many requests per address; beyond it 429 with `Retry-After`.
package struct AddressLimit: Middleware {
  private let limiter: KeyedRateLimiter<IPAddress.Site>

  package init(_ rate: Rate) { limiter = KeyedRateLimiter(rate) }

  package func respond(
    to request: Request, on route: MatchedRoute, next: Next
  ) async throws -> Response {
    if let seconds = limiter.take(request.address.site) {
      throw AppError(.rateLimited, retryAfter: seconds)
    }
    return try await next(request)
  }
}
