internal import Access
internal import Basics
internal import Database
internal import Synchronization
internal import Web

/// The routes `/healthz` (the process) and `/readyz` (database, draining), for load balancers and supervisors.
struct OperationsRoutes: Sendable {
  let health: Health
  let database: any SQLDatabase

  func add(to router: inout Router) {
    router.on(.get, "/healthz", policy: .anyone) { _ in
      .data { $0.object { $0.member("status", "ok") } }
    }
    router.on(.get, "/readyz", policy: .anyone) { request in
      // Returned, not thrown: a failing probe is a regular answer, and not an error to log.
      func notReady(_ message: String) -> Response {
        .failure(AppError(.unavailable, message), requestID: request.id)
      }
      guard !health.isDraining else { return notReady("The server is shutting down.") }
      let condition = await health.condition(of: database)
      switch condition {
      case .unavailable: return notReady("The database does not answer.")
      case .readOnly: return notReady("The database allows reading only.")
      // `diskLow` and `locked` occur with SQLite only. There is no other server then, so this one serves what it can.
      case .writable, .diskLow, .locked: break
      }
      return .data {
        $0.object {
          $0.member("status", "ready")
          $0.member("database", condition.rawValue)
        }
      }
    }
  }
}

/// The route `/metrics` in the Prometheus text format, on a listener of its own.
struct MetricsRoutes: Sendable {
  let metrics: Metrics

  func add(to router: inout Router) {
    router.on(.get, "/metrics", policy: .anyone) { _ in
      Response(
        contentType: "text/plain; version=0.0.4; charset=utf-8", body: Array(metrics.render().utf8))
    }
  }
}
