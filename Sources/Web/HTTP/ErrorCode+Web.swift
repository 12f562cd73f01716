package import Basics

/// What is wrong with a request or a connection as such, independent of the route.
extension ErrorCode {
  /// All codes of this file.
  package static let web: [ErrorCode] = [
    badRequest, invalidJSON, notFound, methodNotAllowed, requestTimeout, preconditionFailed,
    bodyTooLarge, unsupportedMediaType, rangeNotSatisfiable, upgradeRequired, headersTooLarge,
    originNotAllowed, timedOut, tooManyConnections, httpVersion,
  ]

  package static let badRequest = ErrorCode("bad_request", 400, "The request is malformed.")
  package static let invalidJSON = ErrorCode("invalid_json", 400, "The body is not a JSON object.")
  package static let notFound = ErrorCode("not_found", 404, "There is nothing at this address.")
  package static let methodNotAllowed = ErrorCode(
    "method_not_allowed", 405, "This address does not answer to that method.")
  package static let requestTimeout = ErrorCode(
    "request_timeout", 408, "The request took too long to arrive.")
  package static let preconditionFailed = ErrorCode(
    "precondition_failed", 412, "It has changed since, or is not what the request expects.")
  package static let bodyTooLarge = ErrorCode("body_too_large", 413, "The body is too large.")
  package static let unsupportedMediaType = ErrorCode(
    "unsupported_media_type", 415, "Send the body as application/json.")
  package static let rangeNotSatisfiable = ErrorCode(
    "range_not_satisfiable", 416, "The part that was asked for is beyond the end.")
  package static let upgradeRequired = ErrorCode(
    "upgrade_required", 426, "This address speaks WebSocket only (RFC 6455, version 13).")
  package static let headersTooLarge = ErrorCode(
    "headers_too_large", 431, "The request line or the headers are too large.")
  package static let originNotAllowed = ErrorCode(
    "origin_not_allowed", 403, "Requests from this origin are not allowed.")
  package static let timedOut = ErrorCode("timed_out", 503, "The server took too long; try again.")
  package static let tooManyConnections = ErrorCode(
    "too_many_connections", 503, "Too many connections are open.")
  package static let httpVersion = ErrorCode(
    "http_version_not_supported", 505, "This server speaks HTTP/1.1.")
}
