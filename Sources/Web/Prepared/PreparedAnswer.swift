internal import Basics
internal import CBrotli
internal import TLS

/// An answer that is built once and sent many times: uncompressed, and compressed if that is smaller. Sending it
/// costs no task and no copy of its body. Only the date and the request id are written each time.
package final class PreparedAnswer: Sendable {
  /// The answer in one content encoding.
  struct Variant: Sendable {
    let tag: EntityTag
    let body: SharedBytes
    /// The status line and the headers with their line ends, except those that differ between answers.
    let head: [UInt8]
    /// The same for 304, for a client that has the content already.
    let notModifiedHead: [UInt8]
  }

  /// Precompressed content. What is nil is compressed here.
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

  /// Smaller bodies fit into one packet anyway.
  private static let smallestBytes = 256
  /// Medium levels, because answers are rebuilt when their content changes.
  private static let gzipLevel: Int32 = 6
  private static let brotliQuality: Int32 = 5
  private static let textTypes = [
    "text/", "application/json", "application/javascript", "application/xml", "application/yaml",
    "application/rss+xml",
    "application/atom+xml", "application/manifest+json", "image/svg+xml",
  ]

  /// `headers` are those besides the content's own; missing security headers are added. Compresses text, which takes
  /// time, so do not call this on a loop.
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
      // The entity tag identifies the content for the client (RFC 9110, 15.4.5).
      notModifiedHead: head(304, notModified, without: "content-type"))
  }

  private static func head(
    _ status: Int, _ response: Response, without left: String? = nil
  ) -> [UInt8] {
    var text = "HTTP/1.1 \(status) \(reasonPhrase(status))\r\n"
    for (name, value) in response.headers where name != left { text += "\(name): \(value)\r\n" }
    return Array(text.utf8)
  }

  /// Nil if the result would not be smaller, or if there is no memory.
  private static func brotli(_ body: [UInt8]) -> [UInt8]? {
    var count = body.count
    let output = [UInt8](unsafeUninitializedCapacity: body.count) { target, filled in
      let status = BrotliEncoderCompress(
        brotliQuality, BROTLI_DEFAULT_WINDOW, BROTLI_MODE_TEXT, body.count, body, &count,
        target.baseAddress)
      filled = status == BROTLI_TRUE ? count : 0
    }
    if output.isEmpty || output.count >= body.count { return nil }
    // Copied to an array of its own size, because the other one has capacity for the whole body.
    return output.withUnsafeBufferPointer { Array($0) }
  }

  // MARK: Choice

  /// Chooses the encoding for a request, and whether to send the body, only its head, or 304.
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
