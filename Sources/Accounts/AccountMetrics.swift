package import Basics

/// The metrics of accounts.
package struct AccountMetrics: Sendable {
  let failedLogIns: Counter
  let limitedSignUps: Counter

  package init(_ metrics: Metrics) {
    failedLogIns = metrics.counter(
      "martlet_logins_failed_total", "Log-ins with a wrong address or password.")
    limitedSignUps = metrics.counter(
      "martlet_signups_limited_total", "Sign-ups refused since their address made too many.")
  }
}
