internal import Basics

/// The head of an answer (RFC 9112, 4), without the fields of its route.
struct ResponseHead {
  let status: Int
  /// Nil if the body is delimited by chunks or by the end of the connection.
  let contentLength: Int64?
  let isChunked: Bool
  let keepsAlive: Bool
  let isVersion10: Bool

  /// The bytes of the head, with the empty line at the end.
  func encode(
    _ headers: [(name: String, value: String)], requestID: String, date: [UInt8],
    reserving bodyBytes: Int = 0
  ) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(512 + bodyBytes)
    bytes.append(contentsOf: "HTTP/1.1 ".utf8)
    appendDecimal(Int64(status), to: &bytes)
    bytes.append(UInt8(ascii: " "))
    bytes.append(contentsOf: reasonPhrase(status).utf8)
    bytes.append(contentsOf: "\r\n".utf8)
    if let contentLength {
      bytes.append(contentsOf: "content-length: ".utf8)
      appendDecimal(contentLength, to: &bytes)
      bytes.append(contentsOf: "\r\n".utf8)
    }
    if isChunked { bytes.append(contentsOf: "transfer-encoding: chunked\r\n".utf8) }
    for (name, value) in headers {
      bytes.append(contentsOf: name.utf8)
      bytes.append(contentsOf: ": ".utf8)
      bytes.append(contentsOf: value.utf8)
      bytes.append(contentsOf: "\r\n".utf8)
    }
    Self.appendEnd(
      to: &bytes, date: date, requestID: requestID, keepsAlive: keepsAlive,
      isVersion10: isVersion10)
    return bytes
  }

  /// Appends the fields that differ between answers, and the empty line, to a status line and fields with their line
  /// ends.
  static func appendEnd(
    to bytes: inout [UInt8], date: [UInt8], requestID: String, keepsAlive: Bool, isVersion10: Bool
  ) {
    bytes.append(contentsOf: "date: ".utf8)
    bytes.append(contentsOf: date)
    bytes.append(contentsOf: "\r\nx-request-id: ".utf8)
    bytes.append(contentsOf: requestID.utf8)
    if !keepsAlive {
      bytes.append(contentsOf: "\r\nconnection: close".utf8)
    } else if isVersion10 {
      bytes.append(contentsOf: "\r\nconnection: keep-alive".utf8)
    }
    bytes.append(contentsOf: "\r\n\r\n".utf8)
  }

  /// Whether answers with this status have a body (RFC 9110, 6.4.1).
  static func mayHaveBody(_ status: Int) -> Bool { status >= 200 && status != 204 && status != 304 }
}

/// The reason phrase of a status that this server sends.
func reasonPhrase(_ status: Int) -> String {
  switch status {
  case 100: "Continue"
  case 101: "Switching Protocols"
  case 200: "OK"
  case 201: "Created"
  case 202: "Accepted"
  case 204: "No Content"
  case 206: "Partial Content"
  case 304: "Not Modified"
  case 308: "Permanent Redirect"
  case 400: "Bad Request"
  case 401: "Unauthorized"
  case 403: "Forbidden"
  case 404: "Not Found"
  case 405: "Method Not Allowed"
  case 408: "Request Timeout"
  case 409: "Conflict"
  case 410: "Gone"
  case 412: "Precondition Failed"
  case 413: "Content Too Large"
  case 415: "Unsupported Media Type"
  case 416: "Range Not Satisfiable"
  case 422: "Unprocessable Content"
  case 426: "Upgrade Required"
  case 429: "Too Many Requests"
  case 431: "Request Header Fields Too Large"
  case 500: "Internal Server Error"
  case 503: "Service Unavailable"
  case 505: "HTTP Version Not Supported"
  default: "Status"
  }
}
