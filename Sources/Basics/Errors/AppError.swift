/// A failure that the caller may read: a stable code, a sentence for a person, and, for the log
/// only, what caused it.
package struct AppError: Error, Sendable {
  package struct Detail: Sendable, Equatable {
    package let field: String
    package let message: String

    package init(field: String, message: String) {
      self.field = field
      self.message = message
    }
  }

  package let code: ErrorCode
  /// Safe to show to anyone: no secret, no name of an internal thing.
  package let message: String
  /// Every field at fault, where the code is about fields; otherwise empty.
  package let details: [Detail]
  /// Seconds after which a retry makes sense; sent as `Retry-After`. 429 and 503 default to 1.
  package let retryAfter: Int?
  /// What caused it. Goes to the log and nowhere else.
  package let underlying: (any Error)?

  package init(
    _ code: ErrorCode, _ message: String? = nil, details: [Detail] = [], retryAfter: Int? = nil,
    underlying: (any Error)? = nil
  ) {
    self.code = code
    self.message = message ?? code.meaning
    self.details = details
    self.retryAfter = retryAfter
    self.underlying = underlying
  }
}
