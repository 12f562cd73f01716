internal import Basics

/// Turns every error into a response: an `AppError` into its code, everything else into 500, with the cause in the
/// log only.
struct Failures: Sendable {
  let log: Log

  func response(to error: any Error, _ record: RequestRecord) -> Response {
    let failure = (error as? AppError) ?? AppError(.internalError, underlying: error)
    if isNews(failure) {
      log.error(
        "request_failed",
        [
          "request_id": .string(record.id), "path": .string(record.path),
          "code": .string(failure.code.wire),
          "cause": .string(failure.underlying.map { "\($0)" } ?? failure.message),
        ])
    }
    var response = Response.failure(failure, requestID: record.id)
    if failure.code == .upgradeRequired {
      response.add("sec-websocket-version", "13")
      response.add("upgrade", "websocket")
    }
    if failure.code.status == 401 { response.add("www-authenticate", "Bearer") }
    return response
  }

  /// Whether the failure is worth a line. When all places are taken, that is only counted.
  private func isNews(_ failure: AppError) -> Bool {
    failure.code.status >= 500 && failure.code != .tooManyConnections
      && !(failure.underlying is BufferBudget.Exhausted)
  }
}
