/// A failure that may be shown to the client: a stable code and a sentence for a person, and for the log only, its
/// cause.
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
  /// Safe to show to anyone. It contains no secrets and no internal names.
  package let message: String
  /// All fields at fault, if the code is about fields; otherwise empty.
  package let details: [Detail]
  /// Seconds after which a retry makes sense, sent as `Retry-After`. Defaults to 1 for status 429 and 503.
  package let retryAfter: Int?
  /// The cause. It is written to the log and shown nowhere else.
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
