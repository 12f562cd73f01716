internal import Basics

/// Headers that keep browsers from doing harm with our answers, where a route has not said otherwise.
enum SecurityHeaders {
  static func add(to response: inout Response, isSecure: Bool) {
    response.addIfMissing("x-content-type-options", "nosniff")
    response.addIfMissing("x-frame-options", "DENY")
    response.addIfMissing("referrer-policy", "no-referrer")
    response.addIfMissing("content-security-policy", "default-src 'none'; frame-ancestors 'none'")
    response.addIfMissing("cache-control", "no-store")
    if isSecure { response.addIfMissing("strict-transport-security", "max-age=31536000") }
  }
}
