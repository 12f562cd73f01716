/// A stable error code for client programs, with its HTTP status.
///
/// Each feature declares its codes in an extension, with a list of them. `ErrorCode.all` in `Server` joins the lists.
/// `docs/ERRORS.md` shows all codes in that order; a test compares the two.
package struct ErrorCode: Hashable, Sendable {
  /// The code as clients see it.
  package let wire: String
  package let status: Int
  /// One sentence for a person, which is also the default message.
  package let meaning: String

  package init(_ wire: String, _ status: Int, _ meaning: String) {
    self.wire = wire
    self.status = status
    self.meaning = meaning
  }

  /// Returns the same code with a sentence that says more about the case at hand.
  package func saying(_ meaning: String) -> ErrorCode { ErrorCode(wire, status, meaning) }
}

extension ErrorCode {
  /// The codes that every feature may use.
  package static let common: [ErrorCode] = [
    validationFailed, rateLimited, internalError, unavailable,
  ]

  package static let validationFailed = ErrorCode(
    "validation_failed", 422, "Some fields are not valid.")
  package static let rateLimited = ErrorCode(
    "rate_limited", 429, "Too many requests; wait a little.")
  package static let internalError = ErrorCode(
    "internal_error", 500, "Something went wrong on our side.")
  package static let unavailable = ErrorCode(
    "unavailable", 503, "The server cannot do this at the moment; try again.")
}
