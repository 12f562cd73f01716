internal import Basics

/// Headers that keep browsers from doing harm with our answers, where a route has not said otherwise.
enum SecurityHeaders {
  // The type is written out: what would be inferred has no names, and each answer would convert it.
  private static let always: [(name: String, value: String)] = [
    ("x-content-type-options", "nosniff"), ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("cache-control", "no-store"),
  ]
  private static let overTLS: [(name: String, value: String)] = [
    ("strict-transport-security", "max-age=31536000")
  ]

  static func add(to response: inout Response, isSecure: Bool) {
    response.addMissing(always)
    if isSecure { response.addMissing(overTLS) }
  }
}
