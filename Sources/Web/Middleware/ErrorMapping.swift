package import Basics

/// Turns every error into a response: an `AppError` into its code, all else into 500 with the cause
/// in the log and nowhere else.
package struct ErrorMapping: Middleware {
  private let log: Log

  package init(log: Log) { self.log = log }

  package func respond(
    to request: Request, on route: MatchedRoute, next: Next
  ) async throws -> Response {
    let failure: AppError
    do { return try await next(request) } catch let error as AppError { failure = error } catch {
      failure = AppError(.internalError, underlying: error)
    }
    if failure.code.status >= 500 {
      log.error(
        "request_failed",
        [
          "request_id": .string(request.id), "route": .string(route.pattern),
          "code": .string(failure.code.wire),
          "cause": .string(failure.underlying.map { "\($0)" } ?? failure.message),
        ])
    }
    var response = Response.failure(failure, requestID: request.id)
    if failure.code == .upgradeRequired {
      response.add("sec-websocket-version", "13")
      response.add("upgrade", "websocket")
    }
    if failure.code.status == 401 { response.add("www-authenticate", "Bearer") }
    return response
  }
}
