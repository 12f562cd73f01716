internal import Basics

/// Headers that keep browsers from doing harm with our answers, where a route has not said otherwise.
enum SecurityHeaders {
  private static let always = [
    (name: "x-content-type-options", value: "nosniff"), ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("cache-control", "no-store"),
  ]
  private static let overTLS = [(name: "strict-transport-security", value: "max-age=31536000")]

  static func add(to response: inout Response, isSecure: Bool) {
    response.addMissing(always)
    if isSecure { response.addMissing(overTLS) }
  }
}
