package import Basics

extension Response {
  /// Content that does not change as long as its tag does not: a file, or shared bytes.
  package enum Content: Sendable {
    case file(OpenFile)
    case shared(SharedBytes)

    var size: Int64 {
      switch self {
      case .file(let file): file.size
      case .shared(let bytes): Int64(bytes.count)
      }
    }

    fileprivate func part(_ range: Range<Int64>) -> Body {
      switch self {
      case .file(let file): .file(FileSlice(file, range))
      case .shared(let bytes):
        range.count == bytes.count
          ? .shared(bytes)
          : .bytes(Array(bytes.bytes[Int(range.lowerBound)..<Int(range.upperBound)]))
      }
    }
  }

  /// Answers a request for content: all of it (200), the requested part (206), nothing if the client's copy is up to
  /// date (304), 412 if a precondition fails, or 416 if the part is beyond the end. RFC 9110, 13 and 14.
  ///
  /// Only single parts: a request for several is answered with the whole. `tag` must change with the bytes.
  package static func content(
    _ content: Content, tag: EntityTag, modified: Timestamp? = nil, contentType: String,
    for request: Request
  ) -> Response {
    let conditions = Conditions(request.headers, method: request.method)
    var response: Response
    switch conditions.verdict(tag: tag, modified: modified) {
    case .failed: return .failure(AppError(.preconditionFailed), requestID: request.id)
    case .notModified: response = Response(status: 304)
    case .proceed:
      switch conditions.range(of: content.size, tag: tag, modified: modified) {
      case .whole: response = Response(contentType: contentType, content.part(0..<content.size))
      case .part(let range):
        response = Response(status: 206, contentType: contentType, content.part(range))
        response.add(
          "content-range", "bytes \(range.lowerBound)-\(range.upperBound - 1)/\(content.size)")
      case .unsatisfiable:
        var failure = Response.failure(AppError(.rangeNotSatisfiable), requestID: request.id)
        failure.add("content-range", "bytes */\(content.size)")
        return failure
      }
    }
    response.add("etag", tag.text)
    if let modified {
      response.add("last-modified", HTTPDate.text(modified.milliseconds / 1000))
    }
    response.add("accept-ranges", "bytes")
    return response
  }
}
