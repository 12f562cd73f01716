package import Basics

/// An answer to a request: a status, header fields and a body, or the switch to a WebSocket.
package struct Response: Sendable {
  package var status: Int
  /// Without Content-Length, Connection and Date, which the connection writes.
  package private(set) var headers: [(name: String, value: String)] = []
  package var body: [UInt8]
  /// Takes over the connection once the 101 is written.
  package let upgrade: WebSocketUpgrade?

  package init(status: Int = 200, contentType: String? = nil, body: [UInt8] = []) {
    self.status = status
    self.body = body
    upgrade = nil
    if let contentType { headers.append(("content-type", contentType)) }
  }

  /// The switch to a WebSocket.
  package init(_ upgrade: WebSocketUpgrade) {
    status = 101
    body = []
    self.upgrade = upgrade
  }

  package mutating func add(_ name: String, _ value: String) { headers.append((name, value)) }

  package func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }

  // MARK: Envelopes

  /// `{"data": ...}`, with `meta` where there is a next page.
  package static func data(
    status: Int = 200, nextCursor: String? = nil, _ write: (inout JSONWriter) -> Void
  ) -> Response {
    var writer = JSONWriter(capacity: 256)
    writer.object {
      $0.key("data")
      write(&$0)
      if let nextCursor {
        $0.key("meta")
        $0.object { $0.member("next_cursor", nextCursor) }
      }
    }
    return Response(status: status, contentType: "application/json", body: writer.bytes)
  }

  /// A page of a list: at most `limit` of the elements, and fewer where the answer would pass
  /// `maximumPageBytes`, though at least one. Give one element more than `limit` where there are more, or
  /// say `hasMore`; `cursor` names the place behind an element.
  package static func list<Element>(
    _ elements: some Collection<Element>, limit: Int, hasMore: Bool = false,
    cursor: (Element) -> String, _ write: (inout JSONWriter, Element) -> Void
  ) -> Response {
    var page = ListPage()
    var last: Element?
    var count = 0
    for element in elements.prefix(limit) {
      guard page.append({ write(&$0, element) }) else { break }
      last = element
      count += 1
    }
    let isCut = hasMore || count < elements.count
    return page.finish(nextCursor: isCut ? last.map(cursor) : nil)
  }

  package static let noContent = Response(status: 204)

  /// `{"error": ...}` for a failure.
  package static func failure(_ error: AppError, requestID: String) -> Response {
    var writer = JSONWriter(capacity: 256)
    writer.object {
      $0.key("error")
      $0.object {
        $0.member("code", error.code.wire)
        $0.member("message", error.message)
        $0.member("request_id", requestID)
        if !error.details.isEmpty {
          $0.key("details")
          $0.array(of: error.details) { writer, detail in
            writer.object {
              $0.member("field", detail.field)
              $0.member("message", detail.message)
            }
          }
        }
      }
    }
    var response = Response(
      status: error.code.status, contentType: "application/json", body: writer.bytes)
    if let seconds = error.retryAfter {
      response.add("retry-after", String(seconds))
    } else if error.code.status == 429 || error.code.status == 503 {
      response.add("retry-after", "1")
    }
    return response
  }
}

/// A page of a list while it is written, one element after the other.
package struct ListPage {
  private var writer = JSONWriter(capacity: 1024)

  /// A page ends before the element with which it would pass this.
  package static let maximumBytes = 1024 * 1024
  /// The envelope around the elements.
  private static let envelopeBytes = 1024

  private var isEmpty = true

  package init() {
    writer.beginObject()
    writer.key("data")
    writer.beginArray()
  }

  /// Bytes written so far.
  package var count: Int { writer.bytes.count }

  /// Writes an element; false, and nothing is written, where the page would be too large with it and has
  /// one already.
  package mutating func append(_ write: (inout JSONWriter) -> Void) -> Bool {
    let mark = writer.mark
    write(&writer)
    if !isEmpty, writer.bytes.count + Self.envelopeBytes > Self.maximumBytes {
      writer.goBack(to: mark)
      return false
    }
    isEmpty = false
    return true
  }

  /// The answer, with the place behind its last element where there is more.
  package mutating func finish(nextCursor: String?) -> Response {
    writer.endArray()
    if let nextCursor {
      writer.key("meta")
      writer.object { $0.member("next_cursor", nextCursor) }
    }
    writer.endObject()
    return Response(contentType: "application/json", body: writer.bytes)
  }
}

/// The reason phrase of a status that this server sends.
func reasonPhrase(_ status: Int) -> String {
  switch status {
  case 100: "Continue"
  case 101: "Switching Protocols"
  case 200: "OK"
  case 201: "Created"
  case 204: "No Content"
  case 400: "Bad Request"
  case 401: "Unauthorized"
  case 403: "Forbidden"
  case 404: "Not Found"
  case 405: "Method Not Allowed"
  case 408: "Request Timeout"
  case 409: "Conflict"
  case 411: "Length Required"
  case 413: "Content Too Large"
  case 415: "Unsupported Media Type"
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
