internal import Basics

/// Headers that limit what browsers do with our answers, unless a route sets its own.
enum SecurityHeaders {
  // With an explicit type: the inferred one has no labels, and each answer would convert it.
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
