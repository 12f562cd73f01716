internal import CZlib
package import EventLoop

/// gzip (RFC 1952) for text of more than 1 KB that is made for one answer, where the client takes it.
package struct Compression: Sendable {
  private static let smallestBytes = 1024
  /// Larger bodies would hold up the loop for more than a millisecond.
  private static let largestOnLoopBytes = 16 * 1024
  /// Of zlib's 1 to 9.
  private static let level: Int32 = 5

  private let pool: ThreadPool

  /// Large bodies are compressed on `pool`.
  package init(pool: ThreadPool) { self.pool = pool }

  /// Compresses an answer to a request with these fields. What a route has encoded already stays as it is.
  func compress(_ response: inout Response, for headers: Headers) async {
    guard case .bytes(let body) = response.body, body.count > Self.smallestBytes,
      response.header("content-encoding") == nil,
      // A part, or what a tag stands for, is of just these bytes.
      response.status != 206, response.header("etag") == nil,
      let type = response.header("content-type"),
      type.hasPrefix("text/") || type.hasPrefix("application/json"),
      AcceptEncoding(headers).takesGzip,
      let compressed = await compress(body), compressed.count < body.count
    else { return }
    response.body = .bytes(compressed)
    response.add("content-encoding", "gzip")
  }

  /// Nil where there is no room for it now: the body leaves as it is.
  private func compress(_ body: [UInt8]) async -> [UInt8]? {
    if body.count <= Self.largestOnLoopBytes { return Self.gzip(body, level: Self.level) }
    do { return try await pool.run { _ in Self.gzip(body, level: Self.level) } } catch {
      return nil
    }
  }

  /// Nil where that would be no smaller, or zlib has no memory.
  static func gzip(_ body: [UInt8], level: Int32) -> [UInt8]? {
    var stream = z_stream()
    guard martlet_deflate_init_gzip(&stream, level) == Z_OK else { return nil }
    defer { deflateEnd(&stream) }
    // What would be larger than the body is of no use.
    let output = [UInt8](unsafeUninitializedCapacity: body.count) { target, count in
      body.withUnsafeBufferPointer { source in
        // zlib only reads its input, whatever its header says.
        stream.next_in = UnsafeMutablePointer(mutating: source.baseAddress)
        stream.avail_in = UInt32(source.count)
        stream.next_out = target.baseAddress
        stream.avail_out = UInt32(target.count)
        count = deflate(&stream, Z_FINISH) == Z_STREAM_END ? Int(stream.total_out) : 0
      }
    }
    if output.isEmpty { return nil }
    // A copy of its own size: the other has room for the body.
    return output.withUnsafeBufferPointer { Array($0) }
  }
}
