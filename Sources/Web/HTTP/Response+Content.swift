package import Basics

extension Response {
  /// Something that stays the same as long as its tag does: a file, or bytes that many share.
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

  /// Answers a request for content: all of it (200), the part that is asked for (206), nothing where the client has it
  /// (304), where it is not as the client wants it (412), or where the part is beyond its end (416). RFC 9110, 13 and 14.
  ///
  /// One part only: who asks for several gets all. `tag` changes with the bytes.
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
