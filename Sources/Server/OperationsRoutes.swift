internal import Access
internal import Basics
internal import Database
internal import Synchronization
internal import Web

/// Whether the server is up, and whether it should get requests.
final class Health: Sendable {
  private let draining = Atomic<Bool>(false)

  var isDraining: Bool { draining.load(ordering: .acquiring) }
  func startDraining() { draining.store(true, ordering: .releasing) }
}

/// `/healthz` (the process) and `/readyz` (database, draining), for load balancers and supervisors.
struct OperationsRoutes: Sendable {
  let health: Health
  let database: any SQLDatabase

  func add(to router: inout Router) {
    router.on(.get, "/healthz", policy: .anyone) { _ in
      .data { $0.object { $0.member("status", "ok") } }
    }
    router.on(.get, "/readyz", policy: .anyone) { _ in
      guard !health.isDraining else {
        throw AppError(.unavailable, "The server is shutting down.")
      }
      _ = try await database.read { try await $0.first("SELECT 1") }
      return .data { $0.object { $0.member("status", "ready") } }
    }
  }
}

/// `/metrics` in the Prometheus text format, on a listener of its own.
struct MetricsRoutes: Sendable {
  let metrics: Metrics

  func add(to router: inout Router) {
    router.on(.get, "/metrics", policy: .anyone) { _ in
      Response(
        contentType: "text/plain; version=0.0.4; charset=utf-8", body: Array(metrics.render().utf8))
    }
  }
}
