package import Basics

/// Limits the rate of requests from one address.
package struct AddressLimit: Sendable {
  private let limiter: KeyedRateLimiter<IPAddress.Site>

  package init(_ rate: Rate) { limiter = KeyedRateLimiter(rate) }

  /// Counts a request. Returns nil if it is allowed; otherwise the seconds until the next one is.
  func take(_ address: IPAddress) -> Int? { limiter.take(address.site) }
}
