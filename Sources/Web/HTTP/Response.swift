package import Basics

/// An answer to a request: a status, header fields and a body, or the switch to a WebSocket.
package struct Response: Sendable {
  package enum Body: Sendable {
    case bytes([UInt8])
    /// Bytes that many answers share.
    case shared(SharedBytes)
    case file(FileSlice)
    /// Written by a task of the request as it is produced. `length` is nil if it is not known beforehand. An error
    /// cuts the connection, because the head has been sent by then.
    case stream(length: Int64?, @Sendable (BodyWriter) async throws -> Void)

    /// Nil if it is not known beforehand.
    package var length: Int64? {
      switch self {
      case .bytes(let bytes): Int64(bytes.count)
      case .shared(let bytes): Int64(bytes.count)
      case .file(let slice): Int64(slice.range.count)
      case .stream(let length, _): length
      }
    }
  }

  package var status: Int
  /// Without Content-Length, Connection and Date, which the connection adds.
  package private(set) var headers: [(name: String, value: String)] = []
  package var body: Body
  /// Takes over the connection after the 101.
  package let upgrade: WebSocketUpgrade?

  package init(status: Int = 200, contentType: String? = nil, body: [UInt8] = []) {
    self.init(status: status, contentType: contentType, .bytes(body))
  }

  package init(status: Int = 200, contentType: String? = nil, _ body: Body) {
    self.status = status
    self.body = body
    upgrade = nil
    if let contentType { add("content-type", contentType) }
  }

  /// Switches to a WebSocket.
  package init(_ upgrade: WebSocketUpgrade) {
    status = 101
    body = .bytes([])
    self.upgrade = upgrade
  }

  /// Adds a field. Characters that would end its line, or that no line may contain, become blanks.
  package mutating func add(_ name: String, _ value: String) {
    let isClean = value.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 }
    headers.append((name, isClean ? value : Self.cleaned(value)))
  }

  private static func cleaned(_ value: String) -> String {
    String(
      decoding: value.utf8.map { $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 ? $0 : 0x20 },
      as: UTF8.self)
  }

  /// Adds a field unless it is present.
  package mutating func addIfMissing(_ name: String, _ value: String) {
    if header(name) == nil { add(name, value) }
  }

  /// Adds those that are not present. Their values must be valid in a header.
  mutating func addMissing(_ known: [(name: String, value: String)]) {
    for field in known where header(field.name) == nil { headers.append(field) }
  }

  package func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }

  // MARK: Envelopes

  /// `{"data": ...}`, with `meta` if there is a next page.
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

  /// A page of a list: at most `limit` elements, or fewer if the answer would exceed `maximumPageBytes`, but at least
  /// one. If there are more, pass one element more than `limit`, or say `hasMore`. `cursor` gives an element's
  /// position.
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
