package import Basics

/// How many requests an address may send.
package struct AddressLimit: Sendable {
  private let limiter: KeyedRateLimiter<IPAddress.Site>

  package init(_ rate: Rate) { limiter = KeyedRateLimiter(rate) }

  /// Counts a request: nil where it is allowed, else the seconds until the next one is.
  func take(_ address: IPAddress) -> Int? { limiter.take(address.site) }
}
