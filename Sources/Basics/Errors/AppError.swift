/// An error that may be shown to the client: a stable code and a sentence for a person. Its cause is for the log only.
package struct AppError: Error, Sendable {
  /// A field of the request that is at fault, and why.
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
  /// The fields at fault, if the code is about fields; otherwise empty.
  package let details: [Detail]
  /// The seconds after which a retry makes sense, sent as `Retry-After`. If this is nil, answers with status 429 or 503
  /// say 1, and others say nothing.
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
