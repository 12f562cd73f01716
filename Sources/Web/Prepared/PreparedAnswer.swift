internal import Basics
internal import CBrotli
internal import TLS

/// An answer that is made once and sent many times: plain, and compressed where that is smaller. Sending one costs no task
/// and no copy of its body; only the date and the request's id are written for each.
package final class PreparedAnswer: Sendable {
  /// One form of it, by how it is encoded.
  struct Variant: Sendable {
    let tag: EntityTag
    let body: SharedBytes
    /// The status line and the fields, each with its line end, but for what differs from answer to answer.
    let head: [UInt8]
    /// As above, for a client that has it already.
    let notModifiedHead: [UInt8]
  }

  /// The content as somebody has compressed it before; what is nil is done here.
  package struct Compressed: Sendable {
    package var gzip: [UInt8]?
    package var brotli: [UInt8]?

    package init(gzip: [UInt8]? = nil, brotli: [UInt8]? = nil) {
      self.gzip = gzip
      self.brotli = brotli
    }
  }

  private let plain: Variant
  private let gzip: Variant?
  private let brotli: Variant?

  /// Smaller bodies fit one packet anyway.
  private static let smallestBytes = 256
  /// In the middle of what they can: answers are made again when their content changes.
  private static let gzipLevel: Int32 = 6
  private static let brotliQuality: Int32 = 5
  private static let textTypes = [
    "text/", "application/json", "application/javascript", "application/xml", "application/yaml",
    "application/rss+xml",
    "application/atom+xml", "application/manifest+json", "image/svg+xml",
  ]

  /// `headers` besides those of the content itself; the security headers that are missing are added. Compresses where the
  /// type is text, which takes its time: not on a loop.
  package init(
    contentType: String, body: [UInt8], headers: [(name: String, value: String)] = [],
    isSecure: Bool = false, compressed: Compressed = Compressed()
  ) {
    let isText = Self.textTypes.contains { contentType.hasPrefix($0) }
    let compresses = isText && body.count >= Self.smallestBytes
    var compressed = compressed
    if compresses {
      compressed.gzip = compressed.gzip ?? Compression.gzip(body, level: Self.gzipLevel)
      compressed.brotli = compressed.brotli ?? Self.brotli(body)
    }
    let fingerprint = SHA1.base64(of: body)
    func variant(_ body: [UInt8], _ coding: String?) -> Variant {
      Self.variant(
        body, coding: coding, tag: EntityTag(fingerprint + (coding.map { "-" + $0 } ?? "")),
        contentType: contentType, headers: headers, varies: compresses, isSecure: isSecure)
    }
    plain = variant(body, nil)
    gzip = compressed.gzip.map { variant($0, "gzip") }
    brotli = compressed.brotli.map { variant($0, "br") }
  }

  private static func variant(
    _ body: [UInt8], coding: String?, tag: EntityTag, contentType: String,
    headers: [(name: String, value: String)], varies: Bool, isSecure: Bool
  ) -> Variant {
    var response = Response(contentType: contentType, .bytes(body))
    for (name, value) in headers { response.add(name, value) }
    response.add("etag", tag.text)
    if varies { response.addIfMissing("vary", "accept-encoding") }
    SecurityHeaders.add(to: &response, isSecure: isSecure)
    let notModified = response
    if let coding { response.add("content-encoding", coding) }
    response.add("content-length", String(body.count))
    return Variant(
      tag: tag, body: SharedBytes(body), head: head(200, response),
      // A client knows the content by its tag (RFC 9110, 15.4.5).
      notModifiedHead: head(304, notModified, without: "content-type"))
  }

  private static func head(
    _ status: Int, _ response: Response, without left: String? = nil
  ) -> [UInt8] {
    var text = "HTTP/1.1 \(status) \(reasonPhrase(status))\r\n"
    for (name, value) in response.headers where name != left { text += "\(name): \(value)\r\n" }
    return Array(text.utf8)
  }

  /// Nil where that would be no smaller, or there is no memory for it.
  private static func brotli(_ body: [UInt8]) -> [UInt8]? {
    var count = body.count
    let output = [UInt8](unsafeUninitializedCapacity: body.count) { target, filled in
      let status = BrotliEncoderCompress(
        brotliQuality, BROTLI_DEFAULT_WINDOW, BROTLI_MODE_TEXT, body.count, body, &count,
        target.baseAddress)
      filled = status == BROTLI_TRUE ? count : 0
    }
    if output.isEmpty || output.count >= body.count { return nil }
    // A copy of its own size: the other has room for the body.
    return output.withUnsafeBufferPointer { Array($0) }
  }

  // MARK: Answering

  /// What a request gets: a form that its client takes, and whether it has that already, or does not want it.
  func choose(
    for headers: Headers, method: Method
  ) -> (variant: Variant, verdict: Conditions.Verdict) {
    var variant = plain
    if gzip != nil || brotli != nil, headers.has("accept-encoding") {
      let accepted = AcceptEncoding(headers)
      if let brotli, accepted.takesBrotli {
        variant = brotli
      } else if let gzip, accepted.takesGzip {
        variant = gzip
      }
    }
    guard headers.has("if-none-match") || headers.has("if-match") else {
      return (variant, .proceed)
    }
    let conditions = Conditions(headers, method: method)
    return (variant, conditions.verdict(tag: variant.tag, modified: nil))
  }
}
