internal import CZlib
package import EventLoop

/// Compresses (gzip, RFC 1952) text of more than 1 KB that was made for one answer, if the client accepts it.
package struct Compression: Sendable {
  private static let smallestBytes = 1024
  /// Larger bodies would block the loop for more than a millisecond.
  private static let largestOnLoopBytes = 16 * 1024
  /// One of zlib's levels 1 to 9.
  private static let level: Int32 = 5

  private let pool: ThreadPool

  /// Large bodies are compressed on `pool`.
  package init(pool: ThreadPool) { self.pool = pool }

  /// Compresses an answer to a request with these headers. A body that its route has encoded already is left alone.
  func compress(_ response: inout Response, for headers: Headers) async {
    guard case .bytes(let body) = response.body, body.count > Self.smallestBytes,
      response.header("content-encoding") == nil,
      // A partial body, or one with an entity tag, must keep exactly these bytes.
      response.status != 206, response.header("etag") == nil,
      let type = response.header("content-type"),
      type.hasPrefix("text/") || type.hasPrefix("application/json"),
      AcceptEncoding(headers).takesGzip,
      let compressed = await compress(body), compressed.count < body.count
    else { return }
    response.body = .bytes(compressed)
    response.add("content-encoding", "gzip")
  }

  /// Nil if there are no resources for it now; the body is then sent uncompressed.
  private func compress(_ body: [UInt8]) async -> [UInt8]? {
    if body.count <= Self.largestOnLoopBytes { return Self.gzip(body, level: Self.level) }
    do { return try await pool.run { _ in Self.gzip(body, level: Self.level) } } catch {
      return nil
    }
  }

  /// Nil if the result would not be smaller, or if zlib has no memory.
  static func gzip(_ body: [UInt8], level: Int32) -> [UInt8]? {
    var stream = z_stream()
    guard martlet_deflate_init_gzip(&stream, level) == Z_OK else { return nil }
    defer { deflateEnd(&stream) }
    // A result that is larger than the body is useless.
    let output = [UInt8](unsafeUninitializedCapacity: body.count) { target, count in
      body.withUnsafeBufferPointer { source in
        // zlib only reads its input, although its header does not say so.
        stream.next_in = UnsafeMutablePointer(mutating: source.baseAddress)
        stream.avail_in = UInt32(source.count)
        stream.next_out = target.baseAddress
        stream.avail_out = UInt32(target.count)
        count = deflate(&stream, Z_FINISH) == Z_STREAM_END ? Int(stream.total_out) : 0
      }
    }
    if output.isEmpty { return nil }
    // Copied to an array of its own size, because the other one has capacity for the whole body.
    return output.withUnsafeBufferPointer { Array($0) }
  }
}
